package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
)

// served is the base URL of what a process serves.
func served(t *testing.T, p *testenv.Process) string {
	t.Helper()
	line, err := p.Stderr.WaitFor(within(t, 30*time.Second), func(line string) bool { return strings.Contains(line, "http://") })
	require.NoError(t, err)
	return regexp.MustCompile(`http://[0-9.:]+`).FindString(line)
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	r.Close = true // nothing is kept open for another request
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer func() { require.NoError(t, answer.Body.Close()) }()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(text)
}

// readiness is an answer of /readyz.
type readiness struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons"`
}

// awaitReady asks /readyz until the answer is as wanted.
func awaitReady(t *testing.T, url string, want bool) {
	t.Helper()
	awaitReadiness(t, url, func(r readiness) bool { return r.Ready == want })
}

// awaitReason asks until the answer is no, for that reason among others.
func awaitReason(t *testing.T, url, text string) {
	t.Helper()
	awaitReadiness(t, url, func(r readiness) bool { return !r.Ready && strings.Contains(strings.Join(r.Reasons, "; "), text) })
}

func awaitReadiness(t *testing.T, url string, wanted func(readiness) bool) {
	t.Helper()
	var last readiness
	begun := time.Now()
	for end := begun.Add(60 * time.Second); ; {
		status, body := get(t, url+"/readyz")
		last = readiness{}
		require.NoError(t, json.Unmarshal([]byte(body), &last), body)
		require.Equal(t, last.Ready, status == http.StatusOK, body)
		require.Equal(t, last.Ready, len(last.Reasons) == 0, body)
		if wanted(last) {
			break
		}
		if time.Now().After(end) {
			require.FailNow(t, "readiness did not change", body)
		}
		select {
		case <-t.Context().Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Logf("ready is %t after %s: %v", last.Ready, time.Since(begun).Round(time.Millisecond), last.Reasons)
}

// TestReadiness: broker and store of a relay are frozen, one after the other, without
// a connection being closed; the relay is alive all the time.
func TestReadiness(t *testing.T) {
	t.Parallel()
	redis := testenv.Redis(t, testenv.RedisOptions{})
	b := startBroker(t, brokertest.Options{})
	proxy := fault.Start(t, b.Addr())
	p := testenv.Start(t, oncemq(t, "relay", "-L", proxy.URL(), "--store", redis.URL(), "--listen", "127.0.0.1:0"))
	url := served(t, p)
	awaitReady(t, url, true)
	proxy.BlackHole(true)
	awaitReason(t, url, "no answer to PINGREQ within 1s")
	status, body := get(t, url+"/healthz")
	require.Equal(t, http.StatusOK, status, body)
	proxy.BlackHole(false)
	proxy.CutAll(fault.RST)
	awaitReady(t, url, true)
	redis.Pause()
	awaitReason(t, url, "store: ")
	status, body = get(t, url+"/healthz")
	require.Equal(t, http.StatusOK, status, body)
	require.JSONEq(t, `{"live": true, "reasons": []}`, body)
	redis.Continue()
	awaitReady(t, url, true)
	status, _ = get(t, url+"/debug/pprof/")
	require.Equal(t, http.StatusNotFound, status)
	p.Terminate()
	require.Equal(t, exitDone, p.Wait(20*time.Second), p.Stderr.String())
}

// TestListenRefused: an address that cannot be had is a mistake in the command line.
func TestListenRefused(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()
	for address, problem := range map[string]string{
		taken.Addr().String(): taken.Addr().String() + " is in use",
		"9464":                "9464 is not an address; write host and port, such as 127.0.0.1:9464 or [::1]:9464",
		"127.0.0.1:http":      `"127.0.0.1:http" is not an address; write host and port, such as 127.0.0.1:9464 or [::1]:9464`,
		"127.0.0.1:70000":     `"127.0.0.1:70000" is not an address; write host and port, such as 127.0.0.1:9464 or [::1]:9464`,
		"192.0.2.1:9464":      "cannot listen at 192.0.2.1:9464: bind: cannot assign requested address",
	} {
		for _, name := range []string{"relay", "sub"} {
			args := []string{name, "-L", nobody, "--listen", address}
			if name == "sub" {
				args = append(args, "-t", "a")
			}
			got := runOnce(t, command(args...))
			require.Equal(t, exitUsage, got.code, got.stderr)
			require.Equal(t, "oncemq "+name+": --listen: "+problem+" (see oncemq "+name+" --help)\n", got.stderr)
		}
	}
}

// TestSubIsReady: once the broker has agreed, and not before.
func TestSubIsReady(t *testing.T) {
	t.Parallel()
	agreed := make(chan struct{})
	agree := sync.OnceFunc(func() { close(agreed) })
	b := startBroker(t, brokertest.Options{Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
		if d == brokertest.In && p.Type == brokertest.SUBSCRIBE {
			<-agreed
		}
		return brokertest.Pass
	}})
	t.Cleanup(agree)
	p := testenv.Start(t, oncemq(t, "sub", "-L", b.URL(), "-t", "a", "--listen", "127.0.0.1:0"))
	url := served(t, p)
	require.NoError(t, b.Wait(within(t, 30*time.Second), func() bool { return len(b.Connected()) > 0 }))
	awaitReason(t, url, "broker: it has not agreed to the subscription to a yet")
	agree()
	awaitReady(t, url, true)
	p.Terminate()
	require.Equal(t, exitDone, p.Wait(20*time.Second), p.Stderr.String())
}

// families parses what a process serves as Prometheus does.
func families(t *testing.T, url string) map[string]*dto.MetricFamily {
	t.Helper()
	status, body := get(t, url+"/metrics")
	require.Equal(t, http.StatusOK, status)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	all, err := parser.TextToMetricFamilies(strings.NewReader(body))
	require.NoError(t, err, body)
	return all
}

// TestMetricNames: what the dashboard, the alerts and the documentation name is what
// a relay and a subscriber serve.
func TestMetricNames(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	outbox := fileStore(t) + "?max_messages=1000&max_bytes=1MiB"
	relay := testenv.Start(t, oncemq(t, "relay", "-L", b.URL(), "--store", outbox, "--listen", "127.0.0.1:0"))
	sub := testenv.Start(t, oncemq(t, "sub", "-L", b.URL(), "-t", "a/#", "--group", "g", "--store", fileStore(t), "--listen", "127.0.0.1:0"))
	atRelay, atSub := served(t, relay), served(t, sub)
	awaitReady(t, atRelay, true)
	awaitReady(t, atSub, true)
	got := runOnce(t, command("pub", "--store", outbox, "-t", "a/b", "-m", "x", "--no-wait"))
	require.Equal(t, exitDone, got.code, got.stderr)
	_, err := sub.Stdout.WaitFor(within(t, 30*time.Second), func(line string) bool { return line == "x" })
	require.NoError(t, err)

	types := make(map[string]string)
	wanted := []string{ // those that appear with the first message
		"oncemq_store_operation_duration_seconds", "messaging_process_duration_seconds",
		"oncemq_outbox_delivery_duration_seconds", "messaging_client_operation_duration_seconds",
	}
	missing := func() bool {
		for _, url := range []string{atRelay, atSub} {
			for name, f := range families(t, url) {
				require.NotEmpty(t, f.GetHelp(), name)
				types[name] = strings.ToLower(f.GetType().String())
			}
		}
		return slices.ContainsFunc(wanted, func(name string) bool { return types[name] == "" })
	}
	for end := time.Now().Add(30 * time.Second); missing(); {
		require.True(t, time.Now().Before(end), "only %v", types)
	}
	require.Contains(t, types, "go_goroutines")
	require.Contains(t, types, "target_info")
	ours := make(map[string]string)
	for name, kind := range types {
		if strings.HasPrefix(name, "oncemq_") || strings.HasPrefix(name, "messaging_") {
			ours[name] = kind
		}
	}

	t.Run("docs", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, ours, documented(t))
	})
	for _, file := range []string{"prometheus/oncemq.rules.yml", "grafana/oncemq.json"} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			for _, expr := range expressions(t, file) {
				for name, part := range used(expr) {
					kind, ok := ours[name]
					require.True(t, ok, "%s is not served; %s", name, expr)
					require.Equal(t, part != "", kind == "histogram", "%s is a %s; %s", name, kind, expr)
				}
			}
		})
	}
	for _, p := range []*testenv.Process{relay, sub} {
		p.Terminate()
		require.Equal(t, exitDone, p.Wait(20*time.Second), p.Stderr.String())
	}
}

// TestAlerts has Prometheus's own tool judge the rules, where there is one.
func TestAlerts(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Log("there is no promtool; TestMetricNames checks what can be checked without")
		return
	}
	dir := filepath.Join("..", "..", "deploy", "prometheus")
	for what, file := range map[string]string{"check": "oncemq.rules.yml", "test": "oncemq.rules.test.yml"} {
		out, err := exec.CommandContext(t.Context(), promtool, what, "rules", filepath.Join(dir, file)).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
}

// documented are the metrics of docs/observability.md with their types.
func documented(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "observability.md"))
	require.NoError(t, err)
	all := make(map[string]string)
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_.0-9]+)` \\| `([a-z_0-9]+)` \\| ([a-z]+) \\|").FindAllStringSubmatch(string(text), -1) {
		all[row[2]] = row[3]
	}
	return all
}

// expressions are the PromQL expressions of a file of deploy.
func expressions(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", filepath.FromSlash(file)))
	require.NoError(t, err)
	var all []string
	if strings.HasSuffix(file, ".json") {
		var dashboard struct {
			Panels []struct {
				Targets []struct{ Expr string }
			}
			Templating struct {
				List []struct{ Type, Definition string }
			}
		}
		require.NoError(t, json.Unmarshal(text, &dashboard))
		for _, p := range dashboard.Panels {
			for _, target := range p.Targets {
				all = append(all, target.Expr)
			}
		}
		for _, v := range dashboard.Templating.List {
			if v.Type == "query" {
				all = append(all, v.Definition)
			}
		}
	} else {
		var rules struct {
			Groups []struct {
				Name  string
				Rules []struct {
					Alert, Expr, For    string
					Labels, Annotations map[string]string
				}
			}
		}
		require.NoError(t, yaml.Unmarshal(text, &rules))
		for _, g := range rules.Groups {
			require.NotEmpty(t, g.Name)
			for _, r := range g.Rules {
				require.NotEmpty(t, r.Alert)
				require.NotEmpty(t, r.Labels["severity"], r.Alert)
				require.NotEmpty(t, r.Annotations["summary"], r.Alert)
				require.NotEmpty(t, r.Annotations["description"], r.Alert)
				all = append(all, r.Expr)
			}
		}
	}
	require.Greater(t, len(all), 10)
	require.NotContains(t, all, "")
	return all
}

// used are the metrics of ours that an expression names, with the part of a
// histogram; what stands within braces and by () are labels.
func used(expr string) map[string]string {
	expr = regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(expr, "")
	expr = regexp.MustCompile(`\b(by|on|without|ignoring)\s*\([^)]*\)`).ReplaceAllString(expr, "")
	expr = regexp.MustCompile(`,\s*(job|instance)\)`).ReplaceAllString(expr, ")")
	names := make(map[string]string)
	for _, name := range regexp.MustCompile(`\b(oncemq|messaging)_[a-z0-9_]+`).FindAllString(expr, -1) {
		part := ""
		for _, p := range []string{"_bucket", "_count", "_sum"} {
			if strings.HasSuffix(name, p) {
				name, part = strings.TrimSuffix(name, p), p
			}
		}
		names[name] = part
	}
	return names
}
