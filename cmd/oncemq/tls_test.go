package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// authority issues certificates for the tests.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, file: filepath.Join(t.TempDir(), "ca.pem")}
	a.key = newKey(t)
	a.cert = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, a.key)
	require.NoError(t, os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600))
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

// sign issues a certificate; a nil parent signs itself.
func (a *authority) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	template.NotBefore = template.NotAfter.Add(-2 * time.Hour)
	if parent == nil {
		parent = template
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, a.key)
	require.NoError(a.t, err)
	cert, err := x509.ParseCertificate(raw)
	require.NoError(a.t, err)
	return cert
}

// issue makes a key pair for TLS.
func (a *authority) issue(template x509.Certificate) tls.Certificate {
	a.t.Helper()
	key := newKey(a.t)
	cert := a.sign(&template, a.cert, key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// write stores a key pair in files.
func (a *authority) write(pair tls.Certificate, mode os.FileMode) (cert, key string) {
	a.t.Helper()
	dir := a.t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	require.NoError(a.t, err)
	require.NoError(a.t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o600))
	require.NoError(a.t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	require.NoError(a.t, os.Chmod(key, mode))
	return cert, key
}

// serveTLS is a broker behind TLS for one connection that publishes a message.
func serveTLS(t *testing.T, config *tls.Config) *brokertest.Listener {
	t.Helper()
	l := brokertest.ListenTLS(t, config)
	l.Script(func(c *brokertest.Conn) {
		if _, err := c.ReadPacket(context.Background()); err != nil {
			return // the client did not like the certificate
		}
		c.SendConnack(false, 0)
		p := c.ExpectPublish()
		c.SendPuback(p.PacketID, 0)
		c.ExpectDisconnect()
		c.Close()
	})
	return l
}

func TestTLSRefuses(t *testing.T) {
	t.Parallel()
	right, wrong := newAuthority(t), newAuthority(t)
	local := []net.IP{net.IPv4(127, 0, 0, 1)}
	for name, test := range map[string]struct {
		cert   tls.Certificate
		max    uint16
		args   []string
		code   int
		stderr string
	}{
		"all right":          {right.issue(x509.Certificate{IPAddresses: local}), 0, []string{"--cafile", right.file}, exitDone, ""},
		"another authority":  {wrong.issue(x509.Certificate{IPAddresses: local}), 0, []string{"--cafile", right.file}, exitStored, "certificate signed by unknown authority"},
		"system's roots":     {right.issue(x509.Certificate{IPAddresses: local}), 0, nil, exitStored, "certificate signed by unknown authority"},
		"another host":       {right.issue(x509.Certificate{DNSNames: []string{"elsewhere"}}), 0, []string{"--cafile", right.file}, exitStored, "127.0.0.1"},
		"expired":            {right.issue(x509.Certificate{IPAddresses: local, NotAfter: time.Now().Add(-time.Minute)}), 0, []string{"--cafile", right.file}, exitStored, "expired"},
		"an old version":     {right.issue(x509.Certificate{IPAddresses: local}), tls.VersionTLS11, []string{"--cafile", right.file}, exitStored, "protocol version"},
		"1.2 where 1.3 must": {right.issue(x509.Certificate{IPAddresses: local}), tls.VersionTLS12, []string{"--cafile", right.file, "--tls-version", "tlsv1.3"}, exitStored, "protocol version"},
		"insecure":           {wrong.issue(x509.Certificate{}), 0, []string{"--insecure"}, exitDone, "WARNING: --insecure is on"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{test.cert}, MaxVersion: test.max, MinVersion: tls.VersionTLS10})
			got := runOnce(t, command(append([]string{"pub", "-L", l.URL(), "-t", "a", "-m", "x", "--timeout", "5"}, test.args...)...))
			require.Equal(t, test.code, got.code, got.stderr)
			require.Contains(t, got.stderr, test.stderr)
			if test.stderr == "" {
				require.Empty(t, got.stderr)
			}
		})
	}
}

func TestTLSClientCertificate(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	for _, mode := range []os.FileMode{0o600, 0o644} {
		l := serveTLS(t, &tls.Config{
			Certificates: []tls.Certificate{a.issue(x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})},
			ClientCAs:    pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
		})
		cert, key := a.write(a.issue(x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}), mode)
		host, port, err := net.SplitHostPort(l.Addr())
		require.NoError(t, err)
		got := runOnce(t, command("pub", "-h", host, "-p", port, "-t", "a", "-m", "x", "--cafile", a.file, "--cert", cert, "--key", key))
		require.Equal(t, exitDone, got.code, got.stderr)
		if mode == 0o600 {
			require.Empty(t, got.stderr)
		} else {
			require.Contains(t, got.stderr, "can be read by others")
		}
	}
}
