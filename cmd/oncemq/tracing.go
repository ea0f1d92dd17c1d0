package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/oncemq/oncemq/autopaho"
)

// The variables of OpenTelemetry's environment that are looked at here. The SDK reads
// them and the others by itself, from the process's environment.
const (
	envDisabled       = "OTEL_SDK_DISABLED"
	envTracesExporter = "OTEL_TRACES_EXPORTER"
	envEndpoint       = "OTEL_EXPORTER_OTLP_ENDPOINT"
	envTracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	envProtocol       = "OTEL_EXPORTER_OTLP_PROTOCOL"
	envTracesProtocol = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
)

// flushPatience bounds how long a command waits at its end for its spans to be taken.
const flushPatience = 2 * time.Second

// traces sends a command's spans to an OTLP endpoint. A nil one does nothing.
type traces struct {
	log      *reporter
	exporter *otlptrace.Exporter
	provider *trace.TracerProvider
	warned   sync.Once
}

// trace has a client's spans exported, if the environment names an endpoint. What is
// wrong with that is one warning, and no reason to fail: messages come first, and the
// variables are meant for other programs, too.
func (sh *shell) trace(ctx context.Context, cfg *autopaho.Config) {
	wanted, err := tracesWanted(sh.lookup)
	if err != nil {
		sh.log.warn("there are no traces: %s", oneLine(err))
	}
	if !wanted || err != nil {
		return
	}
	t := &traces{log: sh.log}
	// What the SDK does not return it tells these two. A program has one of each.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(t.warn))
	otel.SetLogger(logr.New(complaints{t}))
	if t.exporter, err = otlptracehttp.New(ctx); err != nil {
		t.warn(err)
		return
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "oncemq"), attribute.String("service.version", readBuild().Version)), resource.WithFromEnv())
	if err != nil {
		t.warn(err) // about is what could be read
	}
	t.provider = trace.NewTracerProvider(trace.WithBatcher(t.exporter), trace.WithResource(about))
	cfg.TracerProvider, sh.traces = t.provider, t
	if err := tracesPassedOver(sh.lookup); err != nil {
		t.warn(err)
	}
}

// tracesPassedOver is what the SDK passes over without a word: a number or a compression
// that it does not know.
func tracesPassedOver(lookup func(string) (string, bool)) error {
	for _, name := range []string{
		"OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_EXPORT_TIMEOUT", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
	} {
		value, _ := lookup(name)
		if _, err := strconv.Atoi(strings.TrimSpace(value)); err != nil && strings.TrimSpace(value) != "" {
			return fmt.Errorf("%s: %s is not a whole number; the default is taken", name, shown(value))
		}
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"} {
		switch value, _ := lookup(name); strings.TrimSpace(value) {
		case "", "gzip", "none":
		default:
			return fmt.Errorf("%s: %s is not known here; use gzip or none, which is taken", name, shown(value))
		}
	}
	return nil
}

// tracesWanted tells whether there is an endpoint that can be used. Its error names the
// variable.
func tracesWanted(lookup func(string) (string, bool)) (bool, error) {
	first := func(names ...string) (name, value string) {
		for _, name := range names {
			if v, _ := lookup(name); strings.TrimSpace(v) != "" {
				return name, strings.TrimSpace(v)
			}
		}
		return "", ""
	}
	name, endpoint := first(envTracesEndpoint, envEndpoint)
	if _, disabled := first(envDisabled); endpoint == "" || strings.EqualFold(disabled, "true") {
		return false, nil
	}
	switch _, exporter := first(envTracesExporter); exporter {
	case "", "otlp":
	case "none":
		return false, nil
	default:
		return false, fmt.Errorf("%s: %s is not known here; use otlp or none", envTracesExporter, shown(exporter))
	}
	switch protocolName, protocol := first(envTracesProtocol, envProtocol); protocol {
	case "", "http/protobuf", "http/json":
	default:
		return false, fmt.Errorf("%s: %s is not spoken here; use http/protobuf, for which collectors listen at port 4318", protocolName, shown(protocol))
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return false, fmt.Errorf("%s: is not a URL that can be used; it looks like http://localhost:4318", name) // it may have a password
	}
	return true, nil
}

// warn tells the first thing that goes wrong. What follows is mostly the same again,
// every few seconds.
func (t *traces) warn(err error) {
	t.warned.Do(func() { t.log.warn("traces are not sent as they should be: %s", oneLine(err)) })
}

// complaints is the log of the SDK, of which errors count.
type complaints struct{ t *traces }

func (complaints) Init(logr.RuntimeInfo)            {}
func (complaints) Enabled(int) bool                 { return false }
func (complaints) Info(int, string, ...any)         {}
func (c complaints) WithValues(...any) logr.LogSink { return c }
func (c complaints) WithName(string) logr.LogSink   { return c }

// Error leaves out what the error is about: it may be a header with a token.
func (c complaints) Error(err error, what string, _ ...any) {
	c.t.warn(fmt.Errorf("%s: %w", what, err))
}

// close sends what is left, and waits for that no longer than flushPatience.
func (t *traces) close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushPatience)
	defer cancel()
	err := t.provider.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("the endpoint did not take the last spans within %s", flushPatience)
		_ = t.exporter.Shutdown(ctx) // ends what is under way
	}
	if err != nil {
		t.warn(err)
	}
}
