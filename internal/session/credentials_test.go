package session

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// A password that is changed while the link lives is used for the next
// connection; a server that learns of it sooner than we do is tried again.
func TestCredentialsAreChanged(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	var asked atomic.Int32
	p := start(t, l.URL(), func(c *Config) {
		c.Username, c.Password = "nobody", []byte("nothing")
		c.Credentials = func(context.Context) (Credentials, error) {
			n := asked.Add(1)
			if n == 2 {
				return Credentials{}, errors.New("vault is sealed")
			}
			return Credentials{Username: "user", Password: []byte(strings.Repeat("s", int(n)) + "-secret")}, nil
		}
	})
	login := func(c *brokertest.Conn, password string) {
		connect := c.ExpectConnect()
		require.Equal(t, "user", *connect.Connect.Username)
		require.Equal(t, password, *connect.Connect.Password)
	}
	c := l.Accept(t.Context())
	login(c, "s-secret")
	c.SendConnack(false, 0)
	p.up(0)
	c.Reset() // the second attempt fails by itself
	c = l.Accept(t.Context())
	require.ErrorContains(t, p.failure(0), "vault is sealed")
	login(c, "sss-secret")
	c.SendConnack(false, 0x86, brokertest.ReasonString("sss-secret is wrong"))
	c.Close()
	require.ErrorIs(t, p.failure(1), ErrRefused)
	require.NotContains(t, p.failure(1).Error(), "secret")
	c = l.Accept(t.Context())
	login(c, "ssss-secret")
	c.SendConnack(false, 0)
	p.up(1)
	c.SendDisconnect(0x87) // the old one has run out
	c.ExpectClosed()
	c = l.Accept(t.Context())
	login(c, "sssss-secret")
	c.SendConnack(false, 0)
	p.up(2)
	c.SendDisconnect(0x8A) // banned: that is another matter
	require.ErrorIs(t, p.done(), ErrRefused)
}

// Credentials that were never good are told at once, as without the hook, and so
// is what cannot be sent.
func TestCredentialsAreWrong(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL(), func(c *Config) {
		c.Credentials = func(context.Context) (Credentials, error) {
			return Credentials{Username: "user", Password: []byte("wrong")}, nil
		}
	})
	c := l.Accept(t.Context())
	c.ExpectConnect()
	c.SendConnack(false, 0x86)
	require.ErrorIs(t, p.done(), ErrRefused)

	for name, bad := range map[string]Credentials{
		"username": {Username: "a\x00b"}, "65,535": {Password: make([]byte, 1<<16)},
	} {
		p := start(t, l.URL(), func(c *Config) {
			c.Credentials = func(context.Context) (Credentials, error) { return bad, nil }
		})
		require.ErrorContains(t, p.failure(0), name)
	}
}
