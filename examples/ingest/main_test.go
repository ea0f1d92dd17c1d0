package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist/memory"
)

// Two replicas, one of which is killed with -9 in the middle; every reading is
// published twice under its message ID, and is in the table once.
func TestReadingsAreStoredOnce(t *testing.T) {
	t.Parallel()
	const n = 4000
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	pg := testenv.SharedPostgres(t).NewDatabase()
	broker := testenv.Mosquitto(t, testenv.MosquittoOptions{Extra: []string{"max_queued_messages 0"}})
	program := testenv.Build(t, "./examples/ingest")
	start := func(name string) *testenv.Process {
		cmd := exec.Command(program, name)
		cmd.Env = append(os.Environ(), "DATABASE_URL="+pg.URL(), "BROKER="+broker.URL())
		p := testenv.Start(t, cmd)
		_, err := p.Stdout.WaitFor(ctx, func(line string) bool { return line == "ready" })
		require.NoError(t, err)
		return p
	}
	one, two := start("one"), start("two")

	store := memory.New(memory.Options{})
	client, err := autopaho.New(ctx, autopaho.Config{Servers: []string{broker.URL()}, Store: store})
	require.NoError(t, err)
	publish := func(from, to int) {
		var msgs []autopaho.Message
		for i := from; i < to; i++ {
			msgs = append(msgs, autopaho.Message{
				ID: fmt.Sprintf("reading-%05d", i), Topic: "sensors/" + strconv.Itoa(i%20), Payload: []byte(strconv.Itoa(i)),
			})
		}
		accepted, err := client.Enqueue(ctx, msgs...)
		require.NoError(t, err)
		_, err = accepted.Wait(ctx)
		require.NoError(t, err)
	}
	rows := func() (all, different int) {
		_, err := fmt.Sscan(strings.TrimSpace(pg.Exec("SELECT count(*) || ' ' || count(DISTINCT value) FROM readings")), &all, &different)
		require.NoError(t, err)
		return all, different
	}
	publish(0, n/2)
	one.Kill()
	publish(0, n)
	start("one")
	publish(n/2, n)
	require.Eventually(t, func() bool { _, different := rows(); return different == n }, time.Minute, 50*time.Millisecond)
	two.Terminate()
	require.Zero(t, two.Wait(20*time.Second))
	all, _ := rows()
	require.Equal(t, n, all, "readings beyond the first")
	require.NoError(t, client.Close(ctx))
	require.NoError(t, store.Close(ctx))
}
