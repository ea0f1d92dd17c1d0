package dedup

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

func user(pairs ...string) persist.Message {
	m := persist.Message{Topic: "t", Payload: []byte("p")}
	for pair := range slices.Chunk(pairs, 2) {
		m.Properties.User = append(m.Properties.User, persist.UserProperty{Name: pair[0], Value: pair[1]})
	}
	return m
}

func structured(contentType, payload string) persist.Message {
	m := user()
	m.Properties.ContentType, m.Payload = contentType, []byte(payload)
	return m
}

func TestKeys(t *testing.T) {
	t.Parallel()
	correlated := user()
	correlated.Properties.CorrelationData = []byte{0, 255}
	named := user()
	named.ID = "relayed"
	const event = `{"specversion":"1.0","data":{"id":"inner","source":"inner"},"id":"47:11","source":"/o"}`
	for name, c := range map[string]struct {
		kind string
		m    persist.Message
		want string // empty: no key
	}{
		"id":                      {"id", user("message-id", "0190-a"), "0190-a"},
		"first id":                {"id", user("x", "y", "message-id", "a", "message-id", "b"), "a"},
		"id of a stored message":  {"id", named, "relayed"},
		"id like another kind":    {"id", user("message-id", "content:00"), "id:content:00"},
		"no id":                   {"id", user(), ""},
		"empty id":                {"id", user("message-id", ""), ""},
		"property":                {"property:order-id", user("order-id", "4711"), "property:8:order-id:4711"},
		"property with colons":    {"property:a:b", user("a:b", "c:d"), "property:3:a:b:c:d"},
		"no property":             {"property:order-id", user("order", "4711"), ""},
		"empty property":          {"property:order-id", user("order-id", ""), ""},
		"cloudevents binary":      {"cloudevents", user("source", "/o", "id", "47:11"), "cloudevents:2:/o:47:11"},
		"cloudevents without id":  {"cloudevents", user("source", "/o"), ""},
		"cloudevents HTTP prefix": {"cloudevents", user("ce-source", "/o", "ce-id", "1"), ""},
		"cloudevents structured": {
			"cloudevents", structured("Application/CloudEvents+JSON; charset=utf-8", event), "cloudevents:2:/o:47:11",
		},
		"cloudevents batch":      {"cloudevents", structured("application/cloudevents-batch+json", "["+event+"]"), ""},
		"cloudevents bad":        {"cloudevents", structured("application/cloudevents+json", `{"id":"1"}`), ""},
		"cloudevents number":     {"cloudevents", structured("application/cloudevents+json", `{"id":1,"source":"/o"}`), ""},
		"JSON string":            {"json:message_id", structured("", `{"message_id":"a"}`), "json:10:message_id:s:a"},
		"JSON number":            {"json:message_id", structured("", ` { "message_id" : -1.50e3 } `), "json:10:message_id:n:-1.50e3"},
		"JSON path":              {"json:order.id", structured("", `{"id":"no","order":{"x":[{"id":1}],"id":"a"}}`), "json:8:order.id:s:a"},
		"JSON escapes":           {"json:é", structured("", `{"\u00e9":"\u0061\n"}`), "json:2:é:s:a\n"},
		"JSON null":              {"json:a", structured("", `{"a":null}`), ""},
		"JSON true":              {"json:a", structured("", `{"a":true}`), ""},
		"JSON object":            {"json:a", structured("", `{"a":{}}`), ""},
		"JSON empty":             {"json:a", structured("", `{"a":""}`), ""},
		"JSON array":             {"json:a", structured("", `[{"a":"b"}]`), ""},
		"JSON inner":             {"json:a", structured("", `{"b":{"a":"c"}}`), ""},
		"JSON bad number":        {"json:a", structured("", `{"a":01}`), ""},
		"JSON cut":               {"json:a", structured("", `{"a":"b`), ""},
		"JSON through a scalar":  {"json:a.b", structured("", `{"a":1}`), ""},
		"no JSON":                {"json:a", structured("", `a=b`), ""},
		"JSON broken behind it":  {"json:a", structured("", `{"a":"b",,,`), "json:1:a:s:b"},
		"JSON broken before it":  {"json:a", structured("", `{"b":,"a":"b"}`), ""},
		"correlation":            {"correlation", correlated, "correlation:00ff"},
		"no correlation":         {"correlation", user(), ""},
		"content":                {"content", user(), "content:28d0aa477e6df86535b45eabeae3ef53b2f559aa99ed86e91d36c38d37c3d60d"},
		"none":                   {"none", user("message-id", "a"), ""},
		"NUL":                    {"id", user("message-id", "a\x00"), "id:#"},
		"no UTF-8":               {"id", user("message-id", "a\xff"), "id:#"},
		"long":                   {"property:p", user("p", strings.Repeat("x", 200)), "property:#"},
		"name that is very long": {"property:" + strings.Repeat("n", 200), user(strings.Repeat("n", 200), "v"), "property:#"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := ParseKey(c.kind)
			require.NoError(t, err)
			got, ok := f(&c.m)
			require.Equal(t, c.want != "", ok)
			require.Equal(t, ok, got != "")
			require.LessOrEqual(t, len(got), MaxKey)
			require.Equal(t, got, boundKey(got))
			if !strings.Contains(c.want, "#") {
				require.Equal(t, c.want, got)
				return
			}
			kind, _, _ := strings.Cut(c.want, "#")
			require.Regexp(t, "^"+kind+"#[0-9a-f]{64}$", got)
		})
	}
}

// Keys that look alike are told apart.
func TestKeysDoNotCollide(t *testing.T) {
	t.Parallel()
	content := func(topic, payload string) string {
		k, _ := ByContent(&persist.Message{Topic: topic, Payload: []byte(payload)})
		return k
	}
	require.NotEqual(t, content("ab", "c"), content("a", "bc"))

	property := func(name, value string) string {
		m := user(name, value)
		k, _ := ByProperty(name)(&m)
		return k
	}
	long := strings.Repeat("x", 200)
	require.NotEqual(t, property("a", "b:c"), property("a:b", "c"))
	require.NotEqual(t, property("a"+long, "b"), property("a", long+"b"))
	require.NotEqual(t, property("a", long), property("a", long+"x"))

	id := func(value string) string {
		m := user(PropertyMessageID, value)
		k, _ := ByMessageID(&m)
		return k
	}
	for _, other := range []string{
		property("a", "b"), property("a", long), content("a", "b"), id("a:b"), id(long), "key:#" + strings.Repeat("0", 64),
	} {
		require.NotEqual(t, other, id(other))
	}
	number, text := structured("", `{"a":1}`), structured("", `{"a":"1"}`)
	kn, _ := ByJSONField("a")(&number)
	ks, _ := ByJSONField("a")(&text)
	require.NotEqual(t, kn, ks)
}

func TestJSONFieldReadsOneMiB(t *testing.T) {
	t.Parallel()
	within := structured("", `{"pad":"`+strings.Repeat("x", maxJSON-40)+`","id":12345}`)
	_, ok := ByJSONField("id")(&within)
	require.True(t, ok)
	beyond := structured("", `{"pad":"`+strings.Repeat("x", maxJSON)+`","id":12345}`)
	_, ok = ByJSONField("id")(&beyond)
	require.False(t, ok)
	// The number would be cut, and be another one.
	prefix := `{"pad":"` + strings.Repeat("x", maxJSON-8-7-3) + `","id":`
	cut := structured("", prefix+"12345678}")
	require.Less(t, len(prefix), maxJSON)
	_, ok = ByJSONField("id")(&cut)
	require.False(t, ok)
}

func TestParseKeyErrors(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "ids", "ID", "property", "property:", "json", "json:", "json:a..b", "json:.a", "id:x", "none:", "property:\x00"} {
		_, err := ParseKey(s)
		require.ErrorIs(t, err, persist.ErrInvalid, s)
		require.ErrorContains(t, err, keyChoices, s)
	}
	_, ok := ByJSONField("a..b")(&persist.Message{Payload: []byte(`{"a":"b"}`)})
	require.False(t, ok)
}

func FuzzParseKey(f *testing.F) {
	for _, s := range []string{"id", "property:a", "json:a.b", "cloudevents", "correlation", "content", "none", "json:", ":", "property::"} {
		f.Add(s, "name", "value", []byte(`{"a":{"b":1}}`))
	}
	f.Fuzz(func(t *testing.T, s, name, value string, payload []byte) {
		keyOf, err := ParseKey(s)
		if err != nil {
			require.ErrorIs(t, err, persist.ErrInvalid)
			return
		}
		m := user(name, value, "message-id", value, "source", name, "id", value)
		m.Payload, m.Properties.CorrelationData = payload, payload
		k, ok := keyOf(&m)
		require.Equal(t, ok, k != "")
		require.LessOrEqual(t, len(k), MaxKey)
		require.True(t, utf8.ValidString(k))
		require.NotContains(t, k, "\x00")
		again, _ := keyOf(&m)
		require.Equal(t, k, again)
	})
}

// The scanner finds what encoding/json finds, wherever that can read the text.
func FuzzJSONField(f *testing.F) {
	for _, s := range []string{
		`{"a":{"b":"c"}}`, `{"a":{"b":1e5}}`, `{"\u0061":{"b":"\ud800"}}`, `{"x":[1,{"a":2},"\"}"],"a":{"b":-0}}`,
		`{"a":null,"a":{"b":1}}`, `[]`, `{`, `{"a":{"b":"` + "\xff" + `"}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		value, isString, ok := jsonScalar(payload, []string{"a", "b"})
		if !json.Valid(payload) || len(payload) > maxJSON {
			return
		}
		wantValue, wantString, wantOK := jsonReference(payload, []string{"a", "b"})
		require.Equal(t, wantOK, ok)
		require.Equal(t, wantValue, value)
		require.Equal(t, wantString, isString)
	})
}

// jsonReference finds a field with encoding/json: the first of each name.
func jsonReference(payload []byte, names []string) (value string, isString, ok bool) {
	for _, name := range names {
		d := json.NewDecoder(strings.NewReader(string(payload)))
		if open, err := d.Token(); err != nil || open != json.Delim('{') {
			return "", false, false
		}
		payload = nil
		for payload == nil && d.More() {
			token, _ := d.Token()
			var inner json.RawMessage
			if d.Decode(&inner) == nil && token == name {
				payload = inner
			}
		}
	}
	d := json.NewDecoder(strings.NewReader(string(payload)))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return "", false, false
	}
	switch v := v.(type) {
	case string:
		return v, true, true
	case json.Number:
		return v.String(), false, true
	}
	return "", false, false
}
