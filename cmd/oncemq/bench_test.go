package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/load"
)

// TestBench: runs against mosquitto, durable and plain, count everything, compare with an
// earlier one and draw; the store of a run is removed.
func TestBench(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	dir := t.TempDir()
	state := "XDG_STATE_HOME=" + filepath.Join(dir, "state")
	before := filepath.Join(dir, "before.json")
	for i, args := range [][]string{
		{"e2e", "-c", "2", "--json"},
		{"e2e", "-c", "2", "-i", "1", "--compare", before, "--plot", filepath.Join(dir, "plot.svg")},
		{"e2e", "--no-store", "-q", "2", "-S", "100"},
		{"pub", "--no-store", "-q", "0", "-im", "0.1", "--plot", filepath.Join(dir, "plot.html"), "--json"},
	} {
		got := runOnce(t, invocation{args: append([]string{"bench"}, append(args, "-L", "400", "--broker", m.URL())...), env: []string{state}})
		require.Equal(t, exitDone, got.code, "%v: %s", args, got.stderr)
		if i == 0 {
			require.NoError(t, os.WriteFile(before, []byte(got.stdout), 0o600))
		}
		switch args[len(args)-1] {
		case "--json":
			var r load.Result
			require.NoError(t, json.Unmarshal([]byte(got.stdout), &r))
			require.EqualValues(t, 400, r.Sent)
			require.Zero(t, r.Lost)
			require.Equal(t, args[0] == "e2e", r.Durable)
		default:
			require.Regexp(t, `(?m)^sent +400$`, got.stdout)
			require.Regexp(t, `(?m)^lost +0$`, got.stdout)
			require.Regexp(t, `(?m)^received +[0-9,]+/s `, got.stdout)
		}
		if i == 1 {
			require.Regexp(t, `(?m)^received p99 +[0-9.,]+ +[0-9.,]+ +[0-9.]+$`, got.stdout)
		}
	}
	for _, file := range []string{"plot.svg", "plot.html"} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		require.NoError(t, err)
		d := xml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(data, []byte("<!DOCTYPE html>\n"))))
		for {
			if _, err = d.Token(); err != nil {
				break
			}
		}
		require.ErrorIs(t, err, io.EOF, file)
	}
	left, err := filepath.Glob(filepath.Join(dir, "state", "oncemq", "*"))
	require.NoError(t, err)
	require.Empty(t, left, "the store of a run is removed")
}

// TestBenchExitCodes: each end has its code.
func TestBenchExitCodes(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	losing := startBroker(t, brokertest.Options{Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
		if d == brokertest.In && p.Type == brokertest.PUBLISH && len(p.Payload) > 0 && n.Add(1)%4 == 0 {
			return brokertest.Drop
		}
		return brokertest.Pass
	}})
	silent := func() string {
		var acks atomic.Int64
		return startBroker(t, brokertest.Options{Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
			if d == brokertest.Out && p.Type == brokertest.PUBACK && acks.Add(1) > 2 {
				return brokertest.Drop
			}
			return brokertest.Pass
		}}).URL()
	}
	refusing := startBroker(t, brokertest.Options{Credentials: map[string]string{}})
	used := fileStore(t)
	require.Equal(t, exitDone, runOnce(t, command("pub", "--store", used, "--no-wait", "-t", "a", "-m", "b")).code)
	other := filepath.Join(t.TempDir(), "other.json")
	require.NoError(t, os.WriteFile(other, []byte(`{"kind":"store"}`), 0o600))
	none := filepath.Join(t.TempDir(), "none.json")
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"loss":              {[]string{"e2e", "--broker", losing.URL(), "--no-store", "-q", "0", "-L", "40", "--settle", "1"}, exitFailed, "10 messages were lost, 0 failed"},
		"no acknowledgment": {[]string{"pub", "--broker", silent(), "-L", "7", "--settle", "0.5"}, exitStored, "7 messages are stored and were not delivered in time"},
		"none, of both":     {[]string{"e2e", "--broker", silent(), "-L", "7", "--settle", "0.5"}, exitStored, "oncemq bench e2e: 7 messages are stored and were not delivered in time"},
		"refused":           {[]string{"pub", "--broker", refusing.URL()}, exitRefused, "broker refused the connection"},
		"store in use":      {[]string{"store", "--store", used}, exitStore, "is not empty"},
		"store alone":       {[]string{"store", "-L", "300", "-c", "2"}, exitDone, ""},
		"level 0":           {[]string{"e2e", "-q", "0"}, exitUsage, "--qos: the outbox has no level 0"},
		"two stores":        {[]string{"e2e", "--no-store", "--store", used}, exitUsage, "--no-store: cannot stand beside --store"},
		"two rates":         {[]string{"pub", "--rate", "3", "-im", "5"}, exitUsage, "--message-interval: cannot stand beside --rate"},
		"bad rate":          {[]string{"pub", "--rate", "-3"}, exitUsage, "--rate: "},
		"small":             {[]string{"pub", "--size", "3"}, exitUsage, "--size: 3 is out of range"},
		"settle":            {[]string{"pub", "--settle", "0"}, exitUsage, "--settle: is zero; use a time above it"},
		"duration":          {[]string{"store", "--duration", "0"}, exitUsage, "--duration: is zero; use a time above it"},
		"a picture":         {[]string{"store", "--plot", "x.png"}, exitUsage, `--plot: "x.png" does not end in .svg or .html`},
		"no folder":         {[]string{"store", "--plot", filepath.Join(none, "x.svg")}, exitUsage, "--plot: stat "},
		"nothing there":     {[]string{"store", "--compare", none}, exitUsage, "--compare: "},
		"another kind":      {[]string{"pub", "--compare", other}, exitUsage, "it is one of bench store, not of bench pub"},
		"no command":        {nil, exitUsage, "there are pub, sub, e2e and store"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The store of the application is left alone.
			got := runOnce(t, invocation{args: append([]string{"bench"}, c.args...), env: []string{"ONCEMQ_STORE=" + used}})
			require.Equal(t, c.code, got.code, got.stdout+got.stderr)
			require.Contains(t, got.stderr, c.says)
		})
	}
}

// TestBenchInterrupted: a signal ends a run early; what was measured is printed, and the
// store is removed.
func TestBenchInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(within(t, time.Minute))
	var n atomic.Int64
	b := startBroker(t, brokertest.Options{Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
		if d == brokertest.In && p.Type == brokertest.PUBLISH && n.Add(1) == 300 {
			cancel(signalError{syscall.SIGINT})
		}
		return brokertest.Pass
	}})
	state := t.TempDir()
	var stdout, stderr bytes.Buffer
	code := run(ctx, []string{"oncemq", "bench", "e2e", "--broker", b.URL(), "--duration", "1h", "--json"},
		[]string{"XDG_STATE_HOME=" + state}, strings.NewReader(""), &stdout, &stderr)
	require.Equal(t, 128+int(syscall.SIGINT), code, stderr.String())
	var r load.Result
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &r))
	require.True(t, r.Interrupted)
	require.Positive(t, r.Received)
	require.Zero(t, r.Lost)
	left, err := os.ReadDir(filepath.Join(state, "oncemq"))
	require.True(t, err == nil || errors.Is(err, os.ErrNotExist))
	require.Empty(t, left)
}

// TestBenchTable: figures fit into 40 columns.
func TestBenchTable(t *testing.T) {
	t.Parallel()
	r := benchObject{Result: load.Result{Kind: "e2e", Sent: 1_234_567, Received: 1_234_567, Phases: []load.Phase{{
		Name: "delivered", Rate: 123_456.7, Latency: load.Latency{P50: 0.0123, P90: 12.34, P99: 1234.5, P999: 12_345, Max: 3_600_000},
	}}}, Compared: []load.Ratio{{Figure: "delivered rate", Before: 123_456, Now: 234_567, Ratio: 1.9}}}
	require.Equal(t, []string{"0.00", "9.99", "99.5", "1,000", "12,345"},
		[]string{figure(0), figure(9.99), figure(99.45), figure(999.7), figure(12_345)})
	for width, want := range map[int]string{40: "  p99.9", 0: "delivered"} {
		var b bytes.Buffer
		require.NoError(t, writeBench(&b, &r, width))
		require.Contains(t, b.String(), "\n"+want+" ")
		require.Contains(t, b.String(), "1,234,567")
		require.Contains(t, b.String(), "12.3 s")
		for line := range strings.Lines(b.String()) {
			require.True(t, width == 0 || len(strings.TrimRight(line, "\n")) <= width, line)
		}
	}
}
