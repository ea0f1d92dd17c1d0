package doctor

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestWay: what can be read on its way is told, and how bad that is.
func TestWay(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]Severity{
		"mqtt://localhost:1883":                                OK,
		"mqtt://[::1]:1883":                                    OK,
		"unix:///run/broker.sock":                              OK,
		"mqtts://broker.example":                               OK,
		"mqtt://broker.example":                                Warn,
		"ws://192.0.2.1/mqtt":                                  Warn,
		"redis://127.0.0.1:6379/0":                             OK,
		"redis+sentinel://localhost:1,db.example:2/m":          Warn,
		"rediss://db.example":                                  OK,
		"postgres://a@db.example/app":                          Warn,
		"postgres://a@db.example/app?sslmode=disable":          Warn,
		"postgres://a@db.example/app?sslmode=require":          Info,
		"postgres://a@db.example/app?sslmode=verify-full":      OK,
		"postgres:///app?host=/run/postgresql":                 OK,
		"postgres://a@localhost:5432,db.example:5432/app":      Warn,
		"postgres://a@127.0.0.1:5432/app?sslmode=verify-full&": OK,
	} {
		var r Report
		u, err := url.Parse(raw)
		require.NoError(t, err)
		id := "store.encryption"
		switch u.Scheme {
		case "mqtt", "mqtts", "ws", "unix":
			id = "broker.encryption"
			examineBrokerWay(&r, u, true)
		default:
			examineStoreWay(&r, u)
		}
		f := r.Finding(id)
		require.NotNil(t, f, raw)
		require.Equal(t, want, f.Severity, raw)
		require.Equal(t, want == OK, f.Remedy == "", raw)
	}
	var r Report
	examineBrokerWay(&r, &url.URL{Scheme: "mqtt", Host: "broker.example"}, false)
	require.Equal(t, Info, r.Worst(), "nothing secret")
}

func TestSpan(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		24 * time.Hour: "24h", 90 * time.Minute: "1h30m", time.Minute: "1m", 15 * time.Second: "15s",
		70 * time.Second: "1m10s", 1<<32*time.Second - time.Second: "ever", 0: "0s",
	} {
		require.Equal(t, want, span(d))
	}
}
