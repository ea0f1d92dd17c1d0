package postgres

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/testenv"
)

// A process that stores a message and ends at once has woken the others all the same.
func TestOthersAreToldBeforeClose(t *testing.T) {
	t.Parallel()
	url := testenv.SharedPostgres(t).URL()
	wake, stop := openStore(t, url, Options{}).Notify()
	defer stop()
	await := func(what string) {
		t.Helper()
		select {
		case <-wake:
		case <-time.After(20 * time.Second):
			require.Fail(t, "nobody was told", what)
		}
	}
	await("that it listens")
	for i := range 10 {
		s, err := Open(t.Context(), url, Options{})
		require.NoError(t, err)
		enqueue(t, s, fmt.Sprint(i))
		require.NoError(t, s.Close(context.Background()))
		await(fmt.Sprint("message ", i))
	}
}

// The connection dies without a word as the others are told of a commit: they are told
// of the next.
func TestOthersAreToldAfterASilence(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	proxy := fault.Start(t, pg.Addr())
	s, other := openStore(t, pg.URLAt(proxy.Addr()), Options{NoListen: true}), openStore(t, pg.URL(), Options{})
	wake, stop := other.Notify()
	defer stop()
	awaitWake(t, wake) // it listens
	enqueue(t, s, "before")
	awaitWake(t, wake)
	told := func() <-chan struct{} {
		s.notifier.mu.Lock()
		defer s.notifier.mu.Unlock()
		return s.notifier.told
	}
	<-told()
	s.notifier.timeout = 200 * time.Millisecond
	proxy.BlackHole(true)
	s.notifier.tell()
	select {
	case <-told():
	case <-time.After(20 * time.Second):
		t.Error("it still waits for the connection that died")
	}
	proxy.BlackHole(false)
	proxy.CutAll(fault.RST) // pgx asks on a connection of its own for the end of the call
	<-told()
	s.notifier.timeout = 0
	enqueue(t, s, "after")
	awaitWake(t, wake)
}
