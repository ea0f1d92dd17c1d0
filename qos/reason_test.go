package qos

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

var allPackets = []Packet{CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH} //nolint:gochecknoglobals // constant

// specified are the codes of each packet by the packet's own section, written
// down apart from the table, which follows section 2.4. Section 3.14.2.1 lacks
// 0x8C for a DISCONNECT, which 2.4 and 4.12 have.
func specified(p Packet) []byte {
	switch p {
	case CONNACK: // 3.2.2.2
		return []byte{
			0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97,
			0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
		}
	case PUBACK, PUBREC: // 3.4.2.1, 3.5.2.1
		return []byte{0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}
	case PUBREL, PUBCOMP: // 3.6.2.1, 3.7.2.1
		return []byte{0x00, 0x92}
	case SUBACK: // 3.9.3
		return []byte{0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2}
	case UNSUBACK: // 3.11.3
		return []byte{0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91}
	case DISCONNECT: // 3.14.2.1
		return []byte{
			0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95,
			0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
		}
	case AUTH: // 3.15.2.1
		return []byte{0x00, 0x18, 0x19}
	}
	return nil
}

func TestAllowedIsTheSpecification(t *testing.T) {
	t.Parallel()
	for _, p := range allPackets {
		for c := range 256 {
			code := byte(c)
			want := slices.Contains(specified(p), code)
			require.Equal(t, want, Allowed(p, code), "%s 0x%02X", p, code)
			if want {
				require.NotEqual(t, "Unknown reason code", Name(code), "0x%02X", code)
			}
		}
	}
	require.False(t, Allowed(Packet(0), 0))
	require.False(t, Allowed(Packet(255), 0))
}

// Every code has a class in every packet, and one that this side can act on: a
// message is never told to stop the connection, nor a connection that a
// message has failed.
func TestClassOfHasNoGap(t *testing.T) {
	t.Parallel()
	possible := map[Packet][]Class{
		CONNACK:    {Success, Retry, Stop, Redirect},
		PUBACK:     {Success, NoSubscribers, Retry, Permanent},
		PUBREC:     {Success, NoSubscribers, Retry, Permanent},
		PUBREL:     {Success},
		PUBCOMP:    {Success},
		SUBACK:     {Success, Retry, Permanent},
		UNSUBACK:   {Success, Retry, Permanent},
		DISCONNECT: {Retry, Stop, Suspect, Redirect},
		AUTH:       {Success, Retry},
	}
	for _, p := range allPackets {
		for c := range 256 {
			code, class := byte(c), ClassOf(p, byte(c))
			require.Contains(t, possible[p], class, "%s 0x%02X", p, code)
			failed := class != Success && class != NoSubscribers
			if p != DISCONNECT && p != PUBREL && p != PUBCOMP {
				require.Equal(t, code >= 0x80, failed, "%s 0x%02X: from 0x80 on it is a failure (section 2.4)", p, code)
			}
			if Name(code) == "Unknown reason code" && code >= 0x80 && p != PUBREL && p != PUBCOMP {
				require.Equal(t, Retry, class, "%s 0x%02X: what is not known loses nothing", p, code)
			}
		}
	}
	require.Equal(t, ClassOf(PUBACK, 0x10), NoSubscribers)
	require.Equal(t, ClassOf(PUBREC, 0x10), NoSubscribers)
}

// The codes of a lost connection, as a list of what each demands.
func TestClassOfConnection(t *testing.T) {
	t.Parallel()
	disconnect := map[Class][]byte{
		Stop:     {0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C, 0x8E, 0x8F, 0x9E, 0xA1, 0xA2},
		Suspect:  {0x81, 0x82, 0x90, 0x93, 0x94, 0x95, 0x99, 0x9A, 0x9B},
		Redirect: {0x9C, 0x9D},
	}
	connack := map[Class][]byte{
		Stop:     {0x81, 0x82, 0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C, 0x8E, 0x90, 0x95, 0x99, 0x9A, 0x9B},
		Redirect: {0x9C, 0x9D},
	}
	for p, classes := range map[Packet]map[Class][]byte{DISCONNECT: disconnect, CONNACK: connack} {
		for c := 0x80; c <= 0xFF; c++ {
			want := Retry
			for class, codes := range classes {
				if slices.Contains(codes, byte(c)) {
					want = class
				}
			}
			require.Equal(t, want, ClassOf(p, byte(c)), "%s 0x%02X", p, c)
		}
	}
}

func TestClassOfMessageAndRequest(t *testing.T) {
	t.Parallel()
	message := []byte{0x87, 0x90, 0x95, 0x99, 0x9A, 0x9B}
	request := []byte{0x87, 0x8F, 0x95, 0x9E, 0xA1, 0xA2}
	for p, permanent := range map[Packet][]byte{PUBACK: message, PUBREC: message, SUBACK: request, UNSUBACK: request} {
		for c := 0x80; c <= 0xFF; c++ {
			want := Retry
			if slices.Contains(permanent, byte(c)) {
				want = Permanent
			}
			require.Equal(t, want, ClassOf(p, byte(c)), "%s 0x%02X", p, c)
		}
	}
}

// The documentation of ClassOf shows the table as it is.
func TestClassOfDocumentation(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("class.go")
	require.NoError(t, err)
	cell := func(p Packet, code byte, explicit Class) string {
		switch {
		case Allowed(p, code):
			return ClassOf(p, code).String()
		case explicit != 0:
			return "(" + ClassOf(p, code).String() + ")"
		}
		return "-"
	}
	var table strings.Builder
	line := func(columns ...any) {
		row := fmt.Sprintf("//\t%-4s  %-38s  %-8s  %-14s  %-11s  %s", columns...)
		table.WriteString(strings.TrimRightFunc(row, unicode.IsSpace) + "\n")
	}
	line("code", "name", "CONNACK", "PUBACK/PUBREC", "(UN)SUBACK", "DISCONNECT")
	for c, r := range reasons {
		if r.name == "" {
			continue
		}
		code := byte(c)
		sub := SUBACK
		if !Allowed(SUBACK, code) {
			sub = UNSUBACK
		}
		line(fmt.Sprintf("0x%02X", c), r.name, cell(CONNACK, code, r.connack), cell(PUBACK, code, r.message),
			cell(sub, code, r.request), cell(DISCONNECT, code, r.disconnect))
	}
	require.Contains(t, string(source), table.String(), "the table ought to be:\n%s", table.String())
}

func TestNamesOfPacketsAndClasses(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, p := range allPackets {
		require.Equal(t, strings.ToUpper(p.String()), p.String())
		require.False(t, seen[p.String()])
		seen[p.String()] = true
	}
	for c := Success; c <= Redirect; c++ {
		require.NotEqual(t, "unknown", c.String())
		require.False(t, seen[c.String()])
		seen[c.String()] = true
	}
	require.Equal(t, "unknown", Class(0).String())
	require.Equal(t, "packet 3", Packet(3).String())
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code   byte
		reason string
		want   string
	}{
		{0x97, "", "quota exceeded (0x97)"},
		{0x97, "1000 messages a minute", "quota exceeded (0x97): 1000 messages a minute"},
		{0x9B, "", "QoS not supported (0x9B)"},
		{0x01, "", "granted QoS 1 (0x01)"},
		{0x86, " \t ", "bad user name or password (0x86)"},
		{0xF3, "x", "unknown reason code (0xF3): x"},
		{0x87, "no\r\n\x1b[2Jlevel=error msg=forged", "not authorized (0x87): no  [2Jlevel=error msg=forged"},
		{0x87, "a\u202eb\u200bc\xffd\u0085e\x00f", "not authorized (0x87): abcd ef"},
		{0x80, strings.Repeat("é", 40_000), "unspecified error (0x80): " + strings.Repeat("é", 128) + "…"},
		{0x80, strings.Repeat("温", 100), "unspecified error (0x80): " + strings.Repeat("温", 85) + "…"},
	} {
		require.Equal(t, c.want, Describe(c.code, c.reason))
	}
}

func FuzzDescribe(f *testing.F) {
	f.Add(byte(0x97), "quota\x1b[31m")
	f.Add(byte(0x03), "\u202e\xff\r\n")
	f.Fuzz(func(t *testing.T, code byte, reason string) {
		s := Describe(code, reason)
		if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("%q", s)
		}
		if len(s) > 350 {
			t.Fatalf("%d bytes", len(s))
		}
	})
}
