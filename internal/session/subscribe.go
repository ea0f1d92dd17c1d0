package session

import (
	"context"
	"errors"
	"fmt"

	pahoauto "github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	pahosession "github.com/eclipse/paho.golang/paho/session"
)

// Subscription is one filter with its options, section 3.8.3.1.
type Subscription struct {
	Filter            string // $share/<group>/ included
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte
}

// Subscribe asks the server for the filters in one SUBSCRIBE. The error of a
// refused filter is a *SubscribeError; that of a lost connection wraps
// ErrConnectionLost. It returns the QoS that was granted for each filter.
func (l *Link) Subscribe(ctx context.Context, subs []Subscription, id int) ([]byte, error) {
	packet := &paho.Subscribe{}
	if id > 0 {
		packet.Properties = &paho.SubscribeProperties{SubscriptionIdentifier: &id}
	}
	for _, s := range subs {
		packet.Subscriptions = append(packet.Subscriptions, paho.SubscribeOptions{
			Topic: s.Filter, QoS: s.QoS, NoLocal: s.NoLocal,
			RetainAsPublished: s.RetainAsPublished, RetainHandling: s.RetainHandling,
		})
	}
	ack, err := l.manager.Subscribe(ctx, packet)
	if ack == nil {
		return nil, l.requestError("subscribe", err)
	}
	if len(ack.Reasons) != len(subs) {
		return nil, errors.New("subscribe: broker answered another number of filters") // [MQTT-3.9.3-1]
	}
	for i, s := range subs {
		if code := ack.Reasons[i]; code >= 0x80 {
			return nil, &SubscribeError{Filter: s.Filter, Code: code}
		}
	}
	return ack.Reasons, nil
}

// Unsubscribe ends subscriptions.
func (l *Link) Unsubscribe(ctx context.Context, filters []string) error {
	ack, err := l.manager.Unsubscribe(ctx, &paho.Unsubscribe{Topics: filters})
	if ack == nil {
		return l.requestError("unsubscribe", err)
	}
	if len(ack.Reasons) != len(filters) {
		return errors.New("unsubscribe: broker answered another number of filters")
	}
	for i, code := range ack.Reasons {
		if code >= 0x80 {
			return &SubscribeError{Filter: filters[i], Code: code}
		}
	}
	return nil
}

func (l *Link) requestError(op string, err error) error {
	switch {
	case l.Err() != nil:
		return l.Err()
	case errors.Is(err, pahoauto.ConnectionDownError), errors.Is(err, paho.ErrConnectionLost),
		errors.Is(err, pahosession.ErrNoConnection), errors.Is(err, ErrConnectionLost):
		return fmt.Errorf("%s: %w", op, ErrConnectionLost)
	}
	return fmt.Errorf("%s: %w", op, err)
}
