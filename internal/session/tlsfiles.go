package session

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"
)

// TLSFiles are PEM files that are read before each attempt to connect, so that
// certificates which are replaced are used without a restart. An empty name leaves
// what the TLS configuration says.
type TLSFiles struct {
	// CA holds the certificates of the authorities to trust, in place of
	// tls.Config.RootCAs.
	CA string
	// Cert and Key hold this client's certificate, with those between it and its
	// authority behind it, and the private key that belongs to it. Neither goes
	// without the other.
	Cert, Key string
}

// Apply returns a copy of base with what is in the files now; with no file it
// returns base. The error names the file and shows nothing of what is in it.
func (f TLSFiles) Apply(base *tls.Config) (*tls.Config, error) {
	if f == (TLSFiles{}) {
		return base, nil
	}
	if (f.Cert == "") != (f.Key == "") {
		return nil, errors.New("a certificate and its key belong together; name both files or neither")
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if base != nil {
		cfg = base.Clone()
	}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%q holds no certificate in PEM form", f.CA)
		}
	}
	if f.Cert != "" {
		// While one of the files is replaced and the other is not yet, they do not
		// fit: the attempt fails, and the next one is good.
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("client certificate %q: %w", f.Cert, err)
		}
		cfg.Certificates = []tls.Certificate{pair}
		// Whatever authorities the server says that it knows.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return cfg, nil
}

// staleError is an error of an attempt with a client certificate that had run out.
// The server is to judge that, by its own clock, but what it says is an alert at
// best, and often it just hangs up.
type staleError struct {
	err   error
	until time.Time
}

func (e *staleError) Unwrap() error { return e.err }

func (e *staleError) Error() string {
	return fmt.Sprintf("%s (the client certificate expired at %s)", e.err, e.until.UTC().Format(time.RFC3339))
}

// expired is when the client certificate ran out; zero if it has not.
func expired(cfg *tls.Config) time.Time {
	if cfg == nil || len(cfg.Certificates) == 0 {
		return time.Time{}
	}
	leaf := cfg.Certificates[0].Leaf
	if leaf == nil || time.Now().Before(leaf.NotAfter) {
		return time.Time{}
	}
	return leaf.NotAfter
}
