package postgres

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
