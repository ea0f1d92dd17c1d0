package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"
)

// tlsOptions are mosquitto's options for TLS.
type tlsOptions struct {
	cafile, cert, key, version string
	insecure                   bool
}

func (o *tlsOptions) options() []*option {
	return withEnv([]*option{
		{
			name: "cafile", also: []string{"ca"}, category: catTLS, set: name(&o.cafile), def: "those of the system",
			usage: "PEM `FILE` with the certificates of the authorities to trust",
		},
		{name: "cert", category: catTLS, set: name(&o.cert), usage: "PEM `FILE` with this client's certificate"},
		{name: "key", category: catTLS, set: name(&o.key), usage: "PEM `FILE` with the certificate's private key"},
		{
			name: "tls-version", category: catTLS, set: oneOf(&o.version, "tlsv1.2", "tlsv1.3"), def: "tlsv1.2",
			usage: "oldest `VERSION` to speak: tlsv1.2 or tlsv1.3",
		},
		{
			name: "insecure", category: catTLS, set: on(&o.insecure),
			usage: "do not check that the broker is the one that was meant: anybody on the way can read and change " +
				"everything. For tests only",
		},
	})
}

// wanted tells whether an option asks for TLS, where no URL says so.
func (o *tlsOptions) wanted() bool {
	return o.cafile != "" || o.cert != "" || o.key != "" || o.version != "" || o.insecure
}

func (o *tlsOptions) config(sh *shell) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.version == "tlsv1.3" {
		cfg.MinVersion = tls.VersionTLS13
	}
	if o.cafile != "" {
		pem, err := os.ReadFile(o.cafile)
		if err != nil {
			return nil, &usageError{option: "--cafile", problem: err.Error()}
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &usageError{option: "--cafile", problem: shown(o.cafile) + " holds no certificate in PEM form"}
		}
	}
	if err := o.clientCertificate(sh, cfg); err != nil {
		return nil, err
	}
	if o.insecure {
		cfg.InsecureSkipVerify = true // the user asked for it, and is told
		sh.log.failure("WARNING: --insecure is on: the broker's certificate is not checked, and anybody on the way can read and change everything")
	}
	return cfg, nil
}

// clientCertificate has the certificate read anew for every connection, so that
// one that was renewed is used without a restart.
func (o *tlsOptions) clientCertificate(sh *shell, cfg *tls.Config) error {
	switch {
	case o.cert == "" && o.key == "":
		return nil
	case o.cert == "":
		return &usageError{option: "--key", problem: "needs --cert beside it"}
	case o.key == "":
		return &usageError{option: "--cert", problem: "needs --key beside it"}
	}
	if _, err := tls.LoadX509KeyPair(o.cert, o.key); err != nil {
		return &usageError{option: "--cert", problem: err.Error()}
	}
	if info, err := os.Stat(o.key); err == nil && info.Mode().Perm()&0o077 != 0 {
		sh.log.warn("the private key %s can be read by others; chmod 600 is right", shown(o.key))
	}
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(o.cert, o.key)
		return &pair, err
	}
	return nil
}
