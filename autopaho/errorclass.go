package autopaho

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"

	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// ErrorClass tells whose an error is, and so who has to act on it.
type ErrorClass string

// The classes of errors.
const (
	// ClassNetwork: the broker was not reached, or the connection was lost. It is
	// made again.
	ClassNetwork ErrorClass = "network"
	// ClassAuthentication: the broker does not take the credentials or the
	// certificate, or does not allow what was asked for.
	ClassAuthentication ErrorClass = "authentication"
	// ClassTimeout: an answer did not come in time.
	ClassTimeout ErrorClass = "timeout"
	// ClassProtocol: the broker refused for another reason, which its reason code
	// tells, or one side broke the rules of MQTT.
	ClassProtocol ErrorClass = "protocol"
	// ClassStorage: the store's.
	ClassStorage ErrorClass = "storage"
	// ClassApplication: of a handler, or of how this package was used.
	ClassApplication ErrorClass = "application"
)

// ClassOf is the class of an error of this package or of an event; empty for nil.
// What it does not know is ClassApplication.
func ClassOf(err error) ErrorClass {
	var (
		connack    *ConnackError
		disconnect *DisconnectError
		subscribe  *SubscribeError
		delivery   *DeliveryError
		told       *persist.Error
	)
	switch {
	case err == nil:
		return ""
	case errors.As(err, &told), errors.Is(err, persist.ErrUnavailable):
		return ClassStorage
	case errors.As(err, &connack):
		return classOfCode(connack.Code)
	case errors.As(err, &disconnect):
		return classOfCode(disconnect.Code)
	case errors.As(err, &subscribe):
		return classOfCode(subscribe.Code)
	case errors.As(err, &delivery) && delivery.ReasonCode >= 0x80:
		return classOfCode(delivery.ReasonCode)
	case errors.Is(err, ErrConfig), errors.Is(err, ErrInvalidMessage), errors.Is(err, qos.ErrInvalid), errors.Is(err, ErrHandlerTimeout):
		return ClassApplication
	case errors.Is(err, ErrDuplicateClientID), errors.Is(err, ErrRefused):
		return ClassProtocol
	case certificate(err):
		return ClassAuthentication
	case isTimeoutOf(err):
		return ClassTimeout
	case errors.Is(err, ErrConnectionLost), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isNetwork(err):
		return ClassNetwork
	}
	return ClassApplication
}

// classOfCode is the class of a reason code.
func classOfCode(code byte) ErrorClass {
	switch code {
	case 0x86, 0x87, 0x8A, 0x8C: // credentials, not authorized, banned, authentication method
		return ClassAuthentication
	case 0x8D: // keep alive
		return ClassTimeout
	case 0x88, 0x8B, 0x9C, 0x9D: // unavailable, shutting down, use another server, moved
		return ClassNetwork
	}
	return ClassProtocol
}

func certificate(err error) bool {
	var (
		unknown  x509.UnknownAuthorityError
		invalid  x509.CertificateInvalidError
		hostname x509.HostnameError
	)
	return errors.As(err, &unknown) || errors.As(err, &invalid) || errors.As(err, &hostname)
}

func isTimeoutOf(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.As(err, &timeout) && timeout.Timeout()
}

func isNetwork(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &op) || errors.As(err, &dns) || errors.Is(err, net.ErrClosed)
}
