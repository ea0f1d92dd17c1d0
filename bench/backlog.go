package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/sqlite"
)

// backlog fills outboxes and has a process of its own drain each, so that its
// memory can be told.
func backlog(ctx context.Context, o options) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	sizes := []int{10_000, 100_000, 1_000_000}
	if o.messages > 0 {
		sizes = []int{10_000, o.messages}
	}
	fmt.Println("waiting    drained msg/s  resident MiB (peak)")
	for _, n := range sizes {
		dir, err := os.MkdirTemp("", "oncemq-bench")
		if err != nil {
			return err
		}
		path := filepath.Join(dir, "outbox.db")
		if err := fill(ctx, path, o, n); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, self, "drain", "-broker", o.broker, path)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("drain: %w", err)
		}
		seconds, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
		if err != nil {
			return err
		}
		rss := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
		fmt.Printf("%-9d  %13.0f  %.1f\n", n, float64(n)/seconds, float64(rss)/1024)
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

func fill(ctx context.Context, path string, o options, n int) error {
	store, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		return err
	}
	defer store.Close(ctx)
	body := payload(o.size)
	for i := 0; i < n; i += 1000 {
		msgs := make([]persist.Message, min(1000, n-i))
		for j := range msgs {
			msgs[j] = persist.Message{ID: fmt.Sprintf("%036d", i+j), Topic: "bench/a", QoS: 1, Payload: body}
		}
		if _, err := store.Enqueue(ctx, msgs); err != nil {
			return err
		}
	}
	return nil
}

// drainChild drains an outbox and prints the seconds from connection to end.
func drainChild(ctx context.Context, o options, path string) error {
	store, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		return err
	}
	defer store.Close(ctx)
	start := time.Now()
	c, err := autopaho.New(ctx, autopaho.Config{Servers: []string{o.broker}, Store: store})
	if err != nil {
		return err
	}
	for {
		st, err := store.Stats(ctx)
		if err != nil {
			return err
		}
		if st.Pending == 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	fmt.Println(time.Since(start).Seconds())
	return c.Close(ctx)
}
