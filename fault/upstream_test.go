package fault_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault"
)

// The client speaks without TLS, the server with.
func TestUseTLS(t *testing.T) {
	t.Parallel()
	maker := httptest.NewTLSServer(nil) // has a certificate, and clients that know it
	defer maker.Close()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: maker.TLS.Certificates, MinVersion: tls.VersionTLS12})
	require.NoError(t, err)
	var serving sync.WaitGroup
	defer serving.Wait()
	defer func() { _ = ln.Close() }()
	serving.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(nc, nc)
			_ = nc.Close()
		}
	})
	p := fault.Start(t, ln.Addr().String())
	known := x509.NewCertPool()
	known.AddCert(maker.Certificate())
	p.UseTLS(&tls.Config{RootCAs: known, MinVersion: tls.VersionTLS12})
	client := dial(t, p)
	send(t, client, "hello")
	receive(t, client, "hello")
	p.CutAll(fault.RST)
	ended(t, client, syscall.ECONNRESET)

	p.UseTLS(&tls.Config{MinVersion: tls.VersionTLS12}) // does not know the certificate
	client = dial(t, p)
	require.NoError(t, client.SetDeadline(time.Now().Add(limit)))
	ended(t, client, syscall.ECONNRESET)
}

// The server is reached by a way of the caller's own, which knows no half of a
// connection: a client's end is the end of all of it.
func TestUseDial(t *testing.T) {
	t.Parallel()
	servers := make(chan net.Conn, 1)
	p := fault.Start(t, "nowhere")
	p.UseDial(func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		servers <- far
		return near, nil
	})
	client := dial(t, p)
	server := <-servers
	send(t, client, "hello")
	receive(t, server, "hello")
	send(t, server, "yes")
	receive(t, client, "yes")
	require.NoError(t, client.CloseWrite())
	ended(t, server, io.EOF)
	ended(t, client, io.EOF)

	client = dial(t, p)
	server = <-servers
	send(t, client, "hello")
	receive(t, server, "hello")
	p.CutAll(fault.RST)
	ended(t, client, syscall.ECONNRESET)
	ended(t, server, io.EOF)

	p.UseDial(func(context.Context) (net.Conn, error) { return nil, errors.New("no way") })
	ended(t, dial(t, p), syscall.ECONNRESET)
}
