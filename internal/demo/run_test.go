package demo

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault/drill"
)

const messages = 240

// small is a demo that takes a few seconds.
func small(t *testing.T, sabotage drill.Sabotage) Options {
	t.Helper()
	return Options{
		Messages: messages, Sabotage: sabotage, Seed: 1, ReceiptTimeout: 500 * time.Millisecond,
		Folder: t.TempDir(), Replica: replicaCommand,
		Observe: func(e Event) {
			if e.Kind != EventProgress {
				t.Logf("%s %s %s", e.Elapsed.Round(time.Millisecond), e.text(DefaultKills), &e.Counts)
			}
		},
	}
}

// Each variant ends as it must: what is promised holds, and what is taken away
// is missed.
func TestRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		sabotage      drill.Sabotage
		lost, doubled bool
	}{
		{"none", drill.Sabotage{}, false, false},
		{"receipts", drill.Sabotage{Receipts: true}, true, false},
		{"dedup", drill.Sabotage{Dedup: true}, false, true},
		{"both", drill.Sabotage{Receipts: true, Dedup: true}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, err := Run(t.Context(), small(t, c.sabotage))
			require.NoError(t, err)
			t.Log(r.Verdict())
			require.Equal(t, c.sabotage, r.Sabotage)
			require.Equal(t, messages, r.Enqueued)
			require.Equal(t, messages, r.Delivered)
			require.Equal(t, DefaultKills, r.BrokerKills)
			require.Equal(t, 1, r.ReplicaKills)
			require.Len(t, r.HeldAtKills, DefaultKills)
			for _, n := range r.HeldAtKills {
				require.Positive(t, n, "the broker must hold something when it is killed")
			}
			require.Positive(t, r.Redelivered)
			require.Equal(t, r.Effects, r.Enqueued-r.Lost+r.Doubled)
			require.Zero(t, r.Unknown)
			require.Zero(t, r.Open)
			require.False(t, r.TimedOut)
			if c.lost {
				require.Zero(t, r.Acknowledged)
				require.GreaterOrEqual(t, r.Lost, r.Forgotten(), "what nobody was sent cannot have an effect")
			} else {
				require.Equal(t, messages, r.Acknowledged)
				require.Zero(t, r.Lost)
			}
			if c.doubled {
				require.Positive(t, r.Doubled)
				require.Zero(t, r.DuplicatesSuppressed)
			} else {
				require.Positive(t, r.DuplicatesSuppressed)
				require.Zero(t, r.Doubled)
			}
			require.Equal(t, !c.lost && !c.doubled, r.OK)
		})
	}
}

// A demo that is interrupted while the broker is dead leaves no process behind.
func TestRunInterrupted(t *testing.T) {
	t.Parallel()
	reason := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	o := small(t, drill.Sabotage{})
	o.Observe = func(e Event) {
		if e.Kind == EventBrokerKilled {
			cancel(reason)
		}
	}
	var children []*exec.Cmd
	o.Replica = func(ctx context.Context, env []string) *exec.Cmd {
		cmd := replicaCommand(ctx, env)
		children = append(children, cmd)
		return cmd
	}
	r, err := Run(ctx, o)
	require.Nil(t, r)
	require.ErrorIs(t, err, reason)
	require.Len(t, children, len(replicaNames))
	for _, cmd := range children {
		require.NotNil(t, cmd.ProcessState, "it was not waited for")
	}
}

// When the limit passes the demo counts what there is, and does not call it a
// success.
func TestRunLimit(t *testing.T) {
	t.Parallel()
	o := small(t, drill.Sabotage{})
	o.Limit = time.Second
	r, err := Run(t.Context(), o)
	require.NoError(t, err)
	require.True(t, r.TimedOut)
	require.False(t, r.OK)
	require.Contains(t, r.Verdict(), "Stopped before the end")
}

// A replica that cannot run ends the demo, with what it said.
func TestRunReplicaFails(t *testing.T) {
	t.Parallel()
	o := small(t, drill.Sabotage{})
	o.Replica = func(ctx context.Context, _ []string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), ReplicaEnv+"={")
		return cmd
	}
	_, err := Run(t.Context(), o)
	require.ErrorContains(t, err, "replica-1: exit status 1")
	require.ErrorContains(t, err, ReplicaEnv+" cannot be read")
}

func TestOptionsValidate(t *testing.T) {
	t.Parallel()
	good := small(t, drill.Sabotage{})
	require.NoError(t, good.Validate())
	for want, change := range map[string]func(*Options){
		"messages: 79 is out of range": func(o *Options) { o.Messages = 79 },
		"messages: 100001 is out":      func(o *Options) { o.Messages = MaxMessages + 1 },
		"kills: 11 is out of range":    func(o *Options) { o.Kills = 11 },
		"kills: -1 is out of range":    func(o *Options) { o.Kills = -1 },
		"folder: is missing":           func(o *Options) { o.Folder = "" },
		"replica: is missing":          func(o *Options) { o.Replica = nil },
		"receipt timeout: 1µs is too":  func(o *Options) { o.ReceiptTimeout = time.Microsecond },
		"limit: 1ms is too short":      func(o *Options) { o.Limit = time.Millisecond },
	} {
		o := good
		change(&o)
		err := o.Validate()
		require.ErrorIs(t, err, ErrOptions)
		require.ErrorContains(t, err, want)
		_, err = Run(t.Context(), o)
		require.ErrorIs(t, err, ErrOptions)
	}
}
