package main

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/testenv"
)

// spans is an OTLP endpoint, and what it got.
type spans struct {
	*httptest.Server

	mu    sync.Mutex
	heads []http.Header
	got   []*otlp.ResourceSpans
}

func startSpans(t *testing.T) *spans {
	t.Helper()
	s := new(spans)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			unzipped, err := gzip.NewReader(body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			body = unzipped
		}
		text, err := io.ReadAll(body)
		var request collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(text, &request)
		}
		if err != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/traces" {
			http.Error(w, "not an export of traces", http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.heads = append(s.heads, r.Header)
		s.got = append(s.got, request.ResourceSpans...)
	}))
	t.Cleanup(s.Close)
	return s
}

// of are the spans that a service has sent.
func (s *spans) of(service string) (found []*otlp.Span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.got {
		if attributeOf(r.Resource.GetAttributes(), "service.name") != service {
			continue
		}
		for _, scope := range r.ScopeSpans {
			found = append(found, scope.Spans...)
		}
	}
	return found
}

func attributeOf(all []*common.KeyValue, key string) string {
	for _, a := range all {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

// tracedTo is a command in the environment of an OpenTelemetry SDK.
func tracedTo(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := oncemq(t, args...)
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// One trace shows a message from the process that stores it through the one that
// relays it to the one that prints it.
func TestTracesOfCommands(t *testing.T) {
	t.Parallel()
	s := startSpans(t)
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	store := fileStore(t)
	env := func(service string, more ...string) []string {
		return append([]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT=" + s.URL, "OTEL_SERVICE_NAME=" + service,
			"OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test",
		}, more...)
	}
	sub := testenv.Start(t, tracedTo(t, env("printer", "OTEL_EXPORTER_OTLP_COMPRESSION=gzip"), "sub", "-L", m.URL(), "-t", "a/+", "-C", "1", "--debug"))
	_, err := sub.Stderr.WaitFor(within(t, 20*time.Second), func(line string) bool { return strings.HasPrefix(line, "oncemq sub: subscribed to ") })
	require.NoError(t, err)
	pub := testenv.Start(t, tracedTo(t, env("shop", "OTEL_EXPORTER_OTLP_HEADERS=api-key=k1"), "pub", "--store", store, "-t", "a/1", "-m", "x", "--no-wait"))
	require.Equal(t, exitDone, pub.Wait(20*time.Second), pub.Stderr.String())
	relay := testenv.Start(t, tracedTo(t, env("post"), "relay", "--store", store, "-L", m.URL(), "--once"))
	require.Equal(t, exitDone, relay.Wait(20*time.Second), relay.Stderr.String())
	require.Equal(t, exitDone, sub.Wait(20*time.Second), sub.Stderr.String())
	require.Empty(t, pub.Stderr.String()+relay.Stderr.String())

	one := func(service, name string) *otlp.Span {
		t.Helper()
		for _, span := range s.of(service) {
			if span.Name == name {
				return span
			}
		}
		require.FailNow(t, "no such span", "%s of %s in %v", name, service, s.of(service))
		return nil
	}
	enqueue := one("shop", "enqueue")
	require.Len(t, s.of("shop"), 1)
	require.Empty(t, enqueue.ParentSpanId)
	publish := one("post", "publish")
	receive, process := one("printer", "receive a/+"), one("printer", "process a/+")
	for _, span := range []*otlp.Span{publish, receive, process} {
		require.Equal(t, hex.EncodeToString(enqueue.TraceId), hex.EncodeToString(span.TraceId), span.Name)
	}
	require.Equal(t, enqueue.SpanId, publish.ParentSpanId)
	require.Equal(t, enqueue.SpanId, receive.ParentSpanId)
	require.Equal(t, receive.SpanId, process.ParentSpanId)
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Equal(t, "k1", s.heads[0].Get("api-key"))
	require.Equal(t, "test", attributeOf(s.got[0].Resource.Attributes, "deployment.environment.name"))
	require.NotEmpty(t, attributeOf(s.got[0].Resource.Attributes, "service.version"))
}

// rr has its request's span; a sampler that wants none sends none.
func TestTracesOfRequests(t *testing.T) {
	t.Parallel()
	s := startSpans(t)
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	// The request comes back as its own response.
	request := []string{"rr", "-L", m.URL(), "-t", "echo", "-e", "echo", "-m", "x", "-W", "20"}
	env := []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=" + s.URL + "/v1/traces"}
	rr := testenv.Start(t, tracedTo(t, env, request...))
	require.Equal(t, exitDone, rr.Wait(30*time.Second), rr.Stderr.String())
	var names []string
	for _, span := range s.of("oncemq") {
		names = append(names, span.Name)
	}
	require.Contains(t, names, "publish")

	before := len(names)
	for _, more := range []string{"OTEL_TRACES_SAMPLER=always_off", "OTEL_SDK_DISABLED=true", "OTEL_TRACES_EXPORTER=none"} {
		rr = testenv.Start(t, tracedTo(t, append(env, more), request...))
		require.Equal(t, exitDone, rr.Wait(30*time.Second), rr.Stderr.String())
		require.Len(t, s.of("oncemq"), before, more)
		require.Empty(t, rr.Stderr.String(), more)
	}
}

// An endpoint that is away, or does not answer, costs one line and two seconds.
func TestTracesWithoutEndpoint(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // the kernel takes connections, nobody answers
	require.NoError(t, err)
	defer func() { require.NoError(t, silent.Close()) }()
	refused, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, refused.Close())
	for _, c := range []struct{ endpoint, warning string }{
		{"http://" + silent.Addr().String(), "the endpoint did not take the last spans within 2s"},
		{"http://user:secret@" + refused.Addr().String(), "connection refused"},
	} {
		// Whoever waits for the exporter waits for minutes.
		env := []string{
			"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.endpoint, "OTEL_BSP_SCHEDULE_DELAY=10",
			"OTEL_EXPORTER_OTLP_TIMEOUT=600000", "OTEL_BSP_EXPORT_TIMEOUT=600000",
		}
		pub := testenv.Start(t, tracedTo(t, env, "pub", "-L", m.URL(), "-t", "a", "-m", "x"))
		require.Equal(t, exitDone, pub.Wait(60*time.Second), pub.Stderr.String())
		lines := pub.Stderr.Lines()
		require.Len(t, lines, 1, c.endpoint)
		require.Contains(t, lines[0], "oncemq pub: traces are not sent as they should be: ")
		require.Contains(t, lines[0], c.warning)
		require.NotContains(t, lines[0], "secret")
	}
}

// What the SDK does not understand is one line as well, without what it is about.
func TestTracesOfWrongValues(t *testing.T) {
	t.Parallel()
	s := startSpans(t)
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	for value, problem := range map[string]string{
		"OTEL_TRACES_SAMPLER=some":            "unsupported sampler: some",
		"OTEL_EXPORTER_OTLP_HEADERS=secret-1": "parse headers: ",
		"OTEL_BSP_SCHEDULE_DELAY=abc":         `OTEL_BSP_SCHEDULE_DELAY: "abc" is not a whole number; the default is taken`,
		"OTEL_EXPORTER_OTLP_COMPRESSION=zip":  `OTEL_EXPORTER_OTLP_COMPRESSION: "zip" is not known here; use gzip or none, which is taken`,
	} {
		pub := testenv.Start(t, tracedTo(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + s.URL, value}, "pub", "-L", m.URL(), "-t", "a", "-m", "x"))
		require.Equal(t, exitDone, pub.Wait(60*time.Second), pub.Stderr.String())
		require.Len(t, pub.Stderr.Lines(), 1)
		require.Contains(t, pub.Stderr.String(), "oncemq pub: traces are not sent as they should be: "+problem)
		require.NotContains(t, pub.Stderr.String(), "secret")
	}
	require.NotEmpty(t, s.of("oncemq"), "the rest counts")
}

// Nothing is set up unless an endpoint is named that can be used.
func TestTracesWanted(t *testing.T) {
	t.Parallel()
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318"
	for _, c := range []struct {
		env     []string
		wanted  bool
		problem string
	}{
		{nil, false, ""},
		{[]string{"OTEL_SERVICE_NAME=a", "OTEL_TRACES_EXPORTER=otlp"}, false, ""},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT= "}, false, ""},
		{[]string{endpoint}, true, ""},
		{[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://collector.example/x"}, true, ""},
		{[]string{endpoint, "OTEL_SDK_DISABLED=TRUE"}, false, ""},
		{[]string{endpoint, "OTEL_SDK_DISABLED=false"}, true, ""},
		{[]string{endpoint, "OTEL_TRACES_EXPORTER=none"}, false, ""},
		{[]string{endpoint, "OTEL_TRACES_EXPORTER=zipkin"}, false, `OTEL_TRACES_EXPORTER: "zipkin" is not known here; use otlp or none`},
		{[]string{endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"}, true, ""},
		{[]string{endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, false, `OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" is not spoken here; use http/protobuf, for which collectors listen at port 4318`},
		{[]string{endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf"}, true, ""},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=user:secret@localhost:4318"}, false, "OTEL_EXPORTER_OTLP_ENDPOINT: is not a URL that can be used; it looks like http://localhost:4318"},
	} {
		wanted, err := tracesWanted(lookupIn(c.env))
		require.Equal(t, c.wanted, wanted, c.env)
		if c.problem == "" {
			require.NoError(t, err, c.env)
			continue
		}
		require.EqualError(t, err, c.problem)
		var stderr strings.Builder
		sh := &shell{lookup: lookupIn(c.env), log: newReporter(&stderr, "oncemq pub")}
		var cfg autopaho.Config
		sh.trace(t.Context(), &cfg)
		sh.traces.close()
		require.Nil(t, cfg.TracerProvider)
		require.Equal(t, "oncemq pub: there are no traces: "+c.problem+"\n", stderr.String())
	}
}
