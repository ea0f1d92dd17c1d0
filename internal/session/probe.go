package session

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
)

// ErrOldProtocol is the error of a server that takes a connection of MQTT 3.1.1 and none
// of MQTT 5. An attempt of a link wraps ErrRefused as well.
var ErrOldProtocol = errors.New("broker speaks MQTT 3.1.1 only")

// Probe is one connection on which a caller speaks MQTT packet by packet, to find out
// what a server does: it keeps no session state, sends nothing by itself, and does
// not connect again. It belongs to one goroutine.
type Probe struct {
	// Limits are those of CONNACK; Present tells that the server kept the session.
	Limits  Limits
	Present bool

	nc     net.Conn
	r      *bufio.Reader
	lastID uint16
	inbox  []*Incoming // what came while an answer was awaited
}

// Incoming is a PUBLISH of the server.
type Incoming struct {
	Topic   string
	Payload string
	QoS     byte
	DUP     bool
	Retain  bool
	// Expiry is the Message Expiry Interval in seconds, negative if there is none;
	// SubscriptionID is zero if there is none.
	Expiry, SubscriptionID int64

	packetID uint16
}

// OpenProbe connects to one server with what cfg says of names, credentials, TLS and
// the session. A refusal is a *ConnackError; a server that knows MQTT 3.1.1 only is
// ErrOldProtocol.
func OpenProbe(ctx context.Context, cfg Config, u *url.URL) (*Probe, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.ConnectTimeout)
	defer cancel()
	p, err := openProbe(ctx, &cfg, u)
	var refused *ConnackError
	switch {
	case errors.As(err, &refused) && refused.Code == 0x84, errors.Is(err, errNoVersion), errors.Is(err, io.EOF):
		// It did not like the version, or closes without a word, as some do then.
		if takesOld(ctx, &cfg, u) {
			return nil, ErrOldProtocol
		}
	}
	if errors.Is(err, io.EOF) {
		return nil, errors.New("broker closed the connection without an answer to CONNECT")
	}
	return p, err
}

// errNoVersion is a CONNACK of MQTT 3.1.1 that says so.
var errNoVersion = errors.New("broker answers by MQTT 3.1.1: the protocol version is not acceptable")

func openProbe(ctx context.Context, cfg *Config, u *url.URL) (*Probe, error) {
	l := &Link{cfg: *cfg, connect: &paho.Connect{
		ClientID: cfg.ClientID, CleanStart: cfg.CleanStart, KeepAlive: uint16(cfg.KeepAlive / time.Second),
		Username: cfg.Username, UsernameFlag: cfg.Username != "",
		Password: cfg.Password, PasswordFlag: len(cfg.Password) > 0,
	}}
	connect, tlsConfig, err := l.credentials(ctx)
	if err != nil {
		return nil, err
	}
	nc, err := dial(ctx, u, tlsConfig, cfg.Header, cfg.Dial)
	if err != nil {
		return nil, &redacted{err: err, secrets: l.secrets()}
	}
	p := &Probe{nc: nc, r: bufio.NewReader(nc)}
	if err := p.handshake(ctx, appendConnect(nil, connect, cfg), cfg.SessionExpiry); err != nil {
		_ = nc.Close()
		return nil, &redacted{err: err, secrets: l.secrets()}
	}
	return p, nil
}

func (p *Probe) handshake(ctx context.Context, connect []byte, expiry uint32) error {
	if err := p.send(ctx, connect); err != nil {
		return err
	}
	// MQTT 3.1.1 has a CONNACK of two bytes, MQTT 5 one of three or more.
	head, err := p.peek(ctx, 4)
	if err != nil {
		return err
	}
	if oldVersion(head) {
		return errNoVersion
	}
	if head[0] == typeConnack<<4 && head[1] == 2 {
		return fmt.Errorf("%w: CONNACK is one of MQTT 3.1.1, with code %d", errNoVersion, head[3])
	}
	answer, err := p.read(ctx)
	if err != nil {
		return err
	}
	connack, ok := answer.Content.(*packets.Connack)
	if !ok {
		return fmt.Errorf("broker answered CONNECT with %s", answer.PacketType())
	}
	if connack.ReasonCode >= 0x80 {
		return &ConnackError{Code: connack.ReasonCode, Reason: reasonOf(connack.Properties)}
	}
	asked := &packets.Connect{Properties: &packets.Properties{SessionExpiryInterval: &expiry}}
	p.Limits, p.Present = limitsOf(asked, connack), connack.SessionPresent
	return nil
}

// errVersionRefused is the same on a link, where it is a refusal for good.
var errVersionRefused = fmt.Errorf("%w: %w", ErrRefused, ErrOldProtocol)

// oldVersion tells whether a packet is the CONNACK with which a server of MQTT 3.1.1
// refuses any other version: one without properties, with return code 1 [MQTT-3.1.2-2
// of MQTT 3.1.1]. In MQTT 5 it would be malformed.
func oldVersion(packet []byte) bool {
	return len(packet) == 4 && packet[0] == typeConnack<<4 && packet[1] == 2 && packet[3] == 1
}

// takesOld tells whether the server takes a CONNECT of MQTT 3.1.1.
func takesOld(ctx context.Context, cfg *Config, u *url.URL) bool {
	nc, err := DialServer(ctx, u, cfg)
	if err != nil {
		return false
	}
	defer func() { _ = nc.Close() }()
	p := &Probe{nc: nc, r: bufio.NewReader(nc)}
	body := appendString(nil, "MQTT")
	body = append(body, 4, 1<<1, 0, 60) // protocol level, clean session, keep alive
	body = appendString(body, cfg.ClientID)
	if err := p.send(ctx, append(appendVarint([]byte{typeConnect << 4}, len(body)), body...)); err != nil {
		return false
	}
	head, err := p.peek(ctx, 4)
	// Whether it lets us in without a password does not matter: code 1 would be
	// that it does not know this version either.
	return err == nil && head[0] == typeConnack<<4 && head[1] == 2 && head[3] != 1
}

// probePacket is the largest packet that a probe takes.
const probePacket = 1 << 20

// peek waits for bytes, and leaves them to be read.
func (p *Probe) peek(ctx context.Context, n int) ([]byte, error) {
	release, err := p.limit(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	head, err := p.r.Peek(n)
	if err != nil {
		return nil, p.failed(ctx, err)
	}
	return head, nil
}

// read reads a packet.
func (p *Probe) read(ctx context.Context) (*packets.ControlPacket, error) {
	release, err := p.limit(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	// paho would make room for as much as a packet says that it has.
	for n := 2; n <= 5; n++ {
		head, err := p.r.Peek(n)
		if err != nil {
			return nil, p.failed(ctx, err)
		}
		if head[n-1]&0x80 != 0 {
			continue
		}
		size := 0
		for i := n - 1; i > 0; i-- {
			size = size<<7 | int(head[i]&0x7f)
		}
		if size > probePacket {
			return nil, fmt.Errorf("broker sent a packet of %d bytes", size)
		}
		packet, err := packets.ReadPacket(p.r)
		if err != nil {
			return nil, p.failed(ctx, err)
		}
		if d, ok := packet.Content.(*packets.Disconnect); ok {
			return nil, &DisconnectError{Code: d.ReasonCode, Reason: reasonOf(d.Properties)}
		}
		return packet, nil
	}
	return nil, errors.New("broker sent a length that MQTT does not have")
}

// limit bounds what follows by the context, until release is called.
func (p *Probe) limit(ctx context.Context) (release func(), err error) {
	deadline, _ := ctx.Deadline() // zero for none
	if err := p.nc.SetDeadline(deadline); err != nil {
		return nil, err
	}
	nc := p.nc
	if ws, ok := nc.(*wsConn); ok {
		nc = ws.NetConn() // a WebSocket's own deadline must not be set while it writes
	}
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		_ = nc.SetDeadline(time.Unix(1, 0)) // it fails on a closed connection only
	})
	return func() {
		if !stop() {
			<-cut // or it might undo the deadline of the next call
		}
	}, nil
}

// failed is what an error of the network means.
func (p *Probe) failed(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err() // the deadline was only the means
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("broker does not answer: %w", context.DeadlineExceeded)
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %w", ErrConnectionLost, io.EOF)
	}
	return fmt.Errorf("%w: %w", ErrConnectionLost, err)
}

func (p *Probe) send(ctx context.Context, b []byte) error {
	release, err := p.limit(ctx)
	if err != nil {
		return err
	}
	defer release()
	if _, err := p.nc.Write(b); err != nil {
		return p.failed(ctx, err)
	}
	return nil
}

// nextID is a packet identifier that this connection has not used.
func (p *Probe) nextID() uint16 {
	p.lastID++
	return p.lastID
}

// Drop ends the connection without a word, as a crash would.
func (p *Probe) Drop() { _ = p.nc.Close() }

// End disconnects and has the server end the session at once.
func (p *Probe) End(ctx context.Context) error {
	defer p.Drop()
	return p.send(ctx, []byte{typeDisconnect << 4, 7, 0, 5, propSessionExpiry, 0, 0, 0, 0})
}
