// Command order-service takes orders over HTTP and announces each over MQTT,
// with the transactional outbox: the order and its announcement are committed
// together in PostgreSQL. No order goes unannounced, whatever dies, and none is
// announced that was rolled back.
//
//	DATABASE_URL=postgres://… BROKER=mqtt://localhost:1883 order-service
//	curl -d '{"item":"lamp","quantity":2}' localhost:8080/orders
//
// Run as many of it as you like on one database: one of them at a time sends
// what is in a lane of the outbox, and another takes over when it dies.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) (err error) {
	address := os.Getenv("LISTEN")
	if address == "" {
		address = "localhost:8080"
	}
	service, err := newService(ctx, os.Getenv("DATABASE_URL"), os.Getenv("BROKER"))
	if err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = errors.Join(err, service.close(end))
	}()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("listening on", listener.Addr())
	server := &http.Server{Handler: service, ReadHeaderTimeout: 5 * time.Second}
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(listener) }()
	select {
	case err := <-stopped:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return server.Shutdown(end) // answers what was asked, then the client may be closed
}
