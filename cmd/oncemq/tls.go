package main

import (
	"crypto/tls"
	"os"

	"github.com/oncemq/oncemq/autopaho"
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
			usage: "PEM `FILE` with the certificates of the authorities to trust; it is read again for each connection",
		},
		{name: "cert", category: catTLS, set: name(&o.cert), usage: "PEM `FILE` with this client's certificate; it and its key are read again for each connection"},
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

// config is the TLS configuration, and the files that are read anew for every
// connection, so that certificates which were renewed are used without a restart.
func (o *tlsOptions) config(sh *shell) (*tls.Config, autopaho.TLSFiles, error) {
	files := autopaho.TLSFiles{CA: o.cafile, Cert: o.cert, Key: o.key}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.version == "tlsv1.3" {
		cfg.MinVersion = tls.VersionTLS13
	}
	if err := o.check(sh); err != nil {
		return nil, files, err
	}
	if o.insecure {
		cfg.InsecureSkipVerify = true // the user asked for it, and is told
		sh.log.failure("WARNING: --insecure is on: the broker's certificate is not checked, and anybody on the way can read and change everything")
	}
	return cfg, files, nil
}

// check looks at the files as they are now.
func (o *tlsOptions) check(sh *shell) error {
	switch {
	case o.cert == "" && o.key != "":
		return &usageError{option: "--key", problem: "needs --cert beside it"}
	case o.cert != "" && o.key == "":
		return &usageError{option: "--cert", problem: "needs --key beside it"}
	}
	for _, f := range []struct {
		option string
		files  autopaho.TLSFiles
	}{
		{"--cafile", autopaho.TLSFiles{CA: o.cafile}},
		{"--cert", autopaho.TLSFiles{Cert: o.cert, Key: o.key}},
	} {
		if _, err := f.files.Apply(nil); err != nil {
			return &usageError{option: f.option, problem: err.Error()}
		}
	}
	warnReadable(sh, "private key", o.key)
	return nil
}

// warnReadable tells that others can read a secret.
func warnReadable(sh *shell, what, file string) {
	if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o077 != 0 {
		sh.log.warn("the %s %s can be read by others; chmod 600 is right", what, shown(file))
	}
}
