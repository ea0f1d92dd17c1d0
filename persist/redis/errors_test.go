package redis

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// Answers that no script has given were once taken for damage to the store: those
// of protected mode, or about a database that is not there. Damage is what a script
// of ours stumbles over.
func TestKindsOfReplies(t *testing.T) {
	t.Parallel()
	const script = "script: 6b1bf486c81ceb7edf3c093f4c48582e38c0e791, on @user_script:7."
	for text, want := range map[string]error{
		"DENIED Redis is running in protected mode because protected mode is enabled": persist.ErrUnavailable,
		"ERR DB index is out of range":                    persist.ErrUnavailable,
		"ERR WAIT cannot be used with replica instances.": persist.ErrUnavailable,
		"ERR max number of clients reached":               persist.ErrUnavailable,
		"ERR unknown command 'EVALSHA'":                   persist.ErrUnavailable,
		"ERR Protocol error: invalid bulk length":         persist.ErrUnavailable,
		"UNBLOCKED force unblock from blocking operation": persist.ErrUnavailable,
		"ERR Error running script (call to f_6b1b): @user_script:1: Script killed by user with SCRIPT KILL...": persist.ErrUnavailable,
		"OOM command not allowed when used memory > 'maxmemory'. " + script:                                    persist.ErrStoreFull,
		"ERR Error running script (call to f_6b1b): @user_script:1: -OOM command not allowed":                  persist.ErrStoreFull,
		"WRONGTYPE Operation against a key holding the wrong kind of value " + script:                          persist.ErrCorrupt,
		"ERR user_script:7: attempt to compare nil with number " + script:                                      persist.ErrCorrupt,
		"ERR Error running script (call to f_6b1b): @user_script:7: user_script:7: attempt to index a nil":     persist.ErrCorrupt,
		"ERR hash value is not an integer " + script:                                                           persist.ErrCorrupt,
	} {
		require.Equal(t, want, replyErrorKind(text), text)
	}
	server := testenv.Redis(t, testenv.RedisOptions{})
	refused(t, "redis://"+server.Addr()+"/99", Options{}, persist.ErrInvalid, "DB index is out of range")
}

// A TLS handshake that fails comes before any command: what the call was to change has
// certainly not happened.
func TestFailedHandshakeSendsNothing(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{})
	proxy := fault.Start(t, encrypted(t, server.Addr()))
	s := openStore(t, "rediss://"+proxy.Addr()+"/0?skip_verify=true&dial_timeout=20s", Options{})
	web := httptest.NewServer(nil) // it answers who begins with TLS
	defer web.Close()
	proxy.SetTarget(web.Listener.Addr().String())
	proxy.CutAll(fault.RST)
	until(t, func(ctx context.Context) error { // no connection of before is left
		_, err := s.Time(ctx)
		if err != nil && strings.Contains(err.Error(), "TLS handshake") {
			return nil
		}
		return persist.ErrUnavailable
	})
	_, err := s.Enqueue(t.Context(), plainMessages("m", 1))
	require.ErrorContains(t, err, "TLS handshake")
	require.NotErrorIs(t, err, persist.ErrUnknownOutcome)
	require.ErrorIs(t, err, persist.ErrUnavailable)
}
