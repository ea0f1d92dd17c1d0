package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/otel/attribute"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"

	"github.com/oncemq/oncemq/autopaho"
)

// monitorOptions are the options of commands that serve metrics and health.
type monitorOptions struct {
	listen string
}

func (o *monitorOptions) options() []*option {
	return withEnv([]*option{{
		name: "listen", category: "Metrics and health", set: address(&o.listen),
		usage: "`ADDRESS` at which to serve /metrics for Prometheus, /healthz and /readyz, such as 127.0.0.1:9464; without it nothing is served",
	}})
}

// address takes a host, which may be left out, and a port.
func address(dst *string) func(string) error {
	return func(s string) error {
		_, port, err := net.SplitHostPort(s)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n > 65535 {
			return fmt.Errorf("%s is not an address; write host and port, such as 127.0.0.1:9464 or [::1]:9464", shown(s))
		}
		*dst = s
		return nil
	}
}

// monitor serves metrics and health of a command over HTTP. A nil one does nothing.
type monitor struct {
	server   *http.Server
	provider *metric.MeterProvider
	client   atomic.Pointer[autopaho.Client]
	done     chan struct{} // closed when the server has ended

	subscribes bool
}

const (
	// requestTime bounds the reading of a request, and answerTime the answer, which
	// may have to wait for the store.
	requestTime = 5 * time.Second
	answerTime  = 15 * time.Second
)

// start listens and serves, if that was asked for. Until the monitor is told of a
// client the command is alive and not ready; one that subscribes is not ready before
// the client has a subscription either.
func (o *monitorOptions) start(ctx context.Context, sh *shell, subscribes bool) (*monitor, error) {
	if o.listen == "" {
		return nil, nil //nolint:nilnil // off
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return nil, &usageError{option: "--listen", problem: listenProblem(o.listen, err)}
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo(),
		otelprometheus.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("metrics: %w", err), listener.Close())
	}
	m := &monitor{done: make(chan struct{}), subscribes: subscribes, provider: metric.NewMeterProvider(metric.WithReader(exporter), metric.WithResource(
		resource.NewSchemaless(attribute.String("service.name", "oncemq"), attribute.String("service.version", readBuild().Version))))}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { m.answer(w, "live", m.live()) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { m.answer(w, "ready", m.ready(r.Context())) })
	m.server = &http.Server{
		Handler: mux, ReadTimeout: requestTime, WriteTimeout: answerTime, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	go func() {
		defer close(m.done)
		_ = m.server.Serve(listener) // ends with close
	}()
	sh.log.info("metrics and health are at http://%s/metrics, /healthz and /readyz", listener.Addr())
	return m, nil
}

// listenProblem says why an address cannot be had.
func listenProblem(address string, err error) string {
	if errors.Is(err, syscall.EADDRINUSE) {
		return address + " is in use"
	}
	var inner *net.OpError
	if errors.As(err, &inner) {
		err = inner.Err // the rest of the text is the address again
	}
	return "cannot listen at " + address + ": " + oneLine(err)
}

// measure has a client's metrics served.
func (m *monitor) measure(cfg *autopaho.Config) {
	if m != nil {
		cfg.MeterProvider = m.provider
	}
}

// watch has a client's health served.
func (m *monitor) watch(c *autopaho.Client) {
	if m != nil {
		m.client.Store(c)
	}
}

func (m *monitor) live() autopaho.Health {
	if c := m.client.Load(); c != nil {
		return c.Live()
	}
	return autopaho.Health{OK: true}
}

func (m *monitor) ready(ctx context.Context) autopaho.Health {
	c := m.client.Load()
	if c == nil {
		return autopaho.Health{Reasons: []string{"the command has not started yet"}}
	}
	h := c.Ready(ctx)
	if h.OK && m.subscribes && len(c.Subscriptions()) == 0 {
		return autopaho.Health{Reasons: []string{"broker: no subscription was asked for yet"}}
	}
	return h
}

// answer writes health as JSON: {"ready":false,"reasons":["…"]}.
func (m *monitor) answer(w http.ResponseWriter, what string, h autopaho.Health) {
	reasons := h.Reasons
	if reasons == nil {
		reasons = []string{}
	}
	body, err := json.Marshal(map[string]any{what: h.OK, "reasons": reasons})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !h.OK {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = io.WriteString(w, string(body)+"\n") // who asked may have gone
}

// close ends the server.
func (m *monitor) close() {
	if m == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if m.server.Shutdown(ctx) != nil {
		_ = m.server.Close() // those who still wait for an answer get none
	}
	<-m.done
	_ = m.provider.Shutdown(ctx) // there is nothing that it would have to send
}
