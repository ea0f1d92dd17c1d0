package main

import (
	"crypto/tls"
	"fmt"
	"strings"
)

// cipherNames are the names that OpenSSL has for the cipher suites of TLS 1.2 that Go
// takes for secure.
func cipherNames() map[string]uint16 {
	names := map[string]uint16{
		"ECDHE-ECDSA-AES128-GCM-SHA256": tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		"ECDHE-ECDSA-AES256-GCM-SHA384": tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		"ECDHE-RSA-AES128-GCM-SHA256":   tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		"ECDHE-RSA-AES256-GCM-SHA384":   tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		"ECDHE-ECDSA-CHACHA20-POLY1305": tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		"ECDHE-RSA-CHACHA20-POLY1305":   tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		"ECDHE-ECDSA-AES128-SHA":        tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
		"ECDHE-ECDSA-AES256-SHA":        tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
		"ECDHE-RSA-AES128-SHA":          tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
		"ECDHE-RSA-AES256-SHA":          tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
	}
	for _, s := range tls.CipherSuites() { // the names of TLS itself, too
		for _, v := range s.SupportedVersions {
			if v == tls.VersionTLS12 {
				names[s.Name] = s.ID
			}
		}
	}
	return names
}

// ciphers takes a list of cipher suites.
func ciphers(dst *[]uint16) func(string) error {
	return func(s string) error {
		names := cipherNames()
		var suites []uint16
		for name := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == ':' || r == ',' || r == ' ' }) {
			id, ok := names[name]
			if !ok {
				return fmt.Errorf("%s is not a cipher suite of TLS 1.2 that is taken for secure here; name such as ECDHE-RSA-AES128-GCM-SHA256, "+
					"without OpenSSL's keywords, and leave those of TLS 1.3 out, which are always on", shown(name))
			}
			suites = append(suites, id)
		}
		if len(suites) == 0 {
			return fmt.Errorf("names no cipher suite; name such as ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384")
		}
		*dst = suites
		return nil
	}
}
