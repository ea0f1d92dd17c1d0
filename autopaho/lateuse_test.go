package autopaho

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// A call that had begun when Close did made a session that Close knew nothing of: it
// stayed connected for ever.
func TestNoSessionBeginsAfterClose(t *testing.T) {
	t.Parallel()
	b, err := brokertest.NewBroker(brokertest.Options{})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	c, err := New(t.Context(), Config{Servers: []string{b.URL()}})
	require.NoError(t, err)
	require.NoError(t, c.begin())
	closed := make(chan error, 1)
	go func() { closed <- c.Close(context.Background()) }()
	<-c.closing
	_, err = c.ensureConsumer()
	require.ErrorIs(t, err, ErrClosed)
	_, err = c.ensurePublisher()
	require.ErrorIs(t, err, ErrClosed)
	_, err = c.ensureRequester()
	require.ErrorIs(t, err, ErrClosed)
	c.calls.Done()
	require.NoError(t, <-closed)
}
