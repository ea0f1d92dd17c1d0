package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/oncemq/oncemq/autopaho"
)

// tlsOptions are mosquitto's options for TLS.
type tlsOptions struct {
	cafile, capath, cert, key string
	version                   string
	insecure, system          bool
	alpn, keyform             string
	suites                    []uint16
}

func (o *tlsOptions) options() []*option {
	return append(withEnv([]*option{
		{
			name: "cafile", also: []string{"ca"}, category: catTLS, set: name(&o.cafile), def: "those of the system",
			usage: "PEM `FILE` with the certificates of the authorities to trust; it is read again for each connection, unless it is a FIFO",
		},
		{
			name: "capath", category: catTLS, set: name(&o.capath),
			usage: "`DIRECTORY` whose .pem and .crt files hold the certificates of the authorities to trust",
		},
		{
			name: "tls-use-os-certs", category: catTLS, set: on(&o.system),
			usage: "trust the authorities of the system, which is so without --cafile and --capath; where no URL says so, ask for TLS",
		},
		{name: "cert", category: catTLS, set: name(&o.cert), usage: "PEM `FILE` with this client's certificate; it and its key are read again for each connection"},
		{name: "key", category: catTLS, set: name(&o.key), usage: "PEM `FILE` with the certificate's private key"},
		{
			name: "keyform", category: catTLS, set: keyform(&o.keyform), choices: []string{"pem"}, def: "pem",
			usage: "`FORM` of the private key: pem, the only one that there is",
		},
		{
			name: "tls-alpn", category: catTLS, set: name(&o.alpn),
			usage: "`PROTOCOL` to ask for by ALPN, such as x-amzn-mqtt-ca",
		},
		{
			name: "ciphers", category: catTLS, set: ciphers(&o.suites), def: "Go's choice",
			usage: "cipher suites of TLS 1.2 to offer, a `LIST` of OpenSSL's names with colons between them",
		},
		{
			name: "tls-version", category: catTLS, set: oneOf(&o.version, "tlsv1.2", "tlsv1.3"), choices: []string{"tlsv1.2", "tlsv1.3"}, def: "tlsv1.2",
			usage: "oldest `VERSION` to speak: tlsv1.2 or tlsv1.3",
		},
		{
			name: "insecure", category: catTLS, set: on(&o.insecure),
			usage: "do not check that the broker is the one that was meant: anybody on the way can read and change " +
				"everything. For tests only",
		},
	}),
		refused("psk", "KEY", noPSK), refused("psk-identity", "IDENTITY", noPSK),
		refused("tls-engine", "ENGINE", noEngine), refused("tls-engine-kpass-sha1", "SHA1", noEngine),
	)
}

// Why some of mosquitto's options are refused.
const (
	noPSK    = "is not possible, since Go's TLS has no pre-shared keys; use certificates: --cafile, --cert and --key"
	noEngine = "is not possible, since OpenSSL's engines are not used here; use key files: --cert and --key"
)

func keyform(dst *string) func(string) error {
	return func(s string) error {
		if s == "engine" {
			return errors.New(noEngine)
		}
		if s != "pem" {
			return fmt.Errorf("%s is not a choice; use pem", shown(s))
		}
		*dst = s
		return nil
	}
}

// wanted tells whether an option asks for TLS, where no URL says so.
func (o *tlsOptions) wanted() bool {
	return o.cafile != "" || o.capath != "" || o.system || o.cert != "" || o.key != "" || o.version != "" || o.insecure
}

// config is the TLS configuration, and the files that are read anew for every
// connection, so that certificates which were renewed are used without a restart.
func (o *tlsOptions) config(ctx context.Context, sh *shell) (*tls.Config, autopaho.TLSFiles, error) {
	files := autopaho.TLSFiles{CA: o.cafile, Cert: o.cert, Key: o.key}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: o.suites}
	if o.alpn != "" {
		cfg.NextProtos = []string{o.alpn}
	}
	if o.version == "tlsv1.3" {
		cfg.MinVersion = tls.VersionTLS13
	}
	if err := o.check(); err != nil {
		return nil, files, err
	}
	if err := o.readOnce(ctx, cfg, &files); err != nil {
		return nil, files, err
	}
	for _, f := range []struct {
		option string
		files  autopaho.TLSFiles
	}{
		{"--cafile", autopaho.TLSFiles{CA: files.CA}},
		{"--cert", autopaho.TLSFiles{Cert: files.Cert, Key: files.Key}},
	} {
		if _, err := f.files.Apply(nil); err != nil {
			return nil, files, &usageError{option: f.option, problem: err.Error()}
		}
	}
	warnReadable(sh, "private key", files.Key)
	if o.capath != "" {
		var err error
		if cfg.RootCAs, err = authoritiesIn(ctx, o.capath); err != nil {
			return nil, files, err
		}
	}
	if o.insecure {
		cfg.InsecureSkipVerify = true // the user asked for it, and is told
		sh.log.failure("WARNING: --insecure is on: the broker's certificate is not checked, and anybody on the way can read and change everything")
	}
	return cfg, files, nil
}

// check finds contradictions.
func (o *tlsOptions) check() error {
	switch {
	case o.cafile != "" && o.capath != "":
		return &usageError{option: "--capath", problem: "cannot stand beside --cafile; give one"}
	case o.system && (o.cafile != "" || o.capath != ""):
		return &usageError{option: "--tls-use-os-certs", problem: "cannot stand beside --cafile and --capath, which take the place of the system's authorities"}
	case o.cert == "" && o.key != "":
		return &usageError{option: "--key", problem: "needs --cert beside it"}
	case o.cert != "" && o.key == "":
		return &usageError{option: "--cert", problem: "needs --key beside it"}
	}
	return nil
}

// readOnce puts what is in FIFOs into the configuration: they cannot be read again for
// each connection.
func (o *tlsOptions) readOnce(ctx context.Context, cfg *tls.Config, files *autopaho.TLSFiles) error {
	if files.CA != "" && !isRegular(files.CA) {
		pem, err := readFile(ctx, "--cafile", files.CA)
		if err != nil {
			return err
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return &usageError{option: "--cafile", problem: shown(files.CA) + " holds no certificate in PEM form"}
		}
		files.CA = ""
	}
	if files.Cert == "" || isRegular(files.Cert) && isRegular(files.Key) {
		return nil
	}
	cert, err := readFile(ctx, "--cert", files.Cert)
	if err != nil {
		return err
	}
	key, err := readFile(ctx, "--key", files.Key)
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return &usageError{option: "--cert", problem: fmt.Sprintf("client certificate %s: %s", shown(files.Cert), err)}
	}
	cfg.Certificates = []tls.Certificate{pair}
	// Whatever authorities the server says that it knows.
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	files.Cert, files.Key = "", ""
	return nil
}

// authoritiesIn are the certificates in the files of a directory.
func authoritiesIn(ctx context.Context, dir string) (*x509.CertPool, error) {
	bad := func(problem string) (*x509.CertPool, error) {
		return nil, &usageError{option: "--capath", problem: problem}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return bad(err.Error())
	}
	pool, found := x509.NewCertPool(), false
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext != ".pem" && ext != ".crt" {
			continue
		}
		pem, err := readFile(ctx, "--capath", filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		found = pool.AppendCertsFromPEM(pem) || found
	}
	if !found {
		return bad(shown(dir) + " has no .pem or .crt file that holds a certificate")
	}
	return pool, nil
}

// warnReadable tells that others can read a secret.
func warnReadable(sh *shell, what, file string) {
	if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o077 != 0 {
		sh.log.warn("the %s %s can be read by others; chmod 600 is right", what, shown(file))
	}
}
