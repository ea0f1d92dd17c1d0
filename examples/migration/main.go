// Command migration is a program that was written for paho.golang's autopaho and
// now has readings that must not be lost: its connection stays as it was, and the
// readings go through an outbox beside it. docs/migration.md has the whole way.
//
//	migration mqtt://localhost:1883 readings.db
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	pahoauto "github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist/sqlite"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) != 3 {
		log.Fatal("usage: migration BROKER FILE")
	}
	settings := make(chan string, 16)
	d, err := newDevice(ctx, os.Args[1], os.Args[2], settings)
	if err != nil {
		log.Fatal(err)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			if err := d.report(ctx, "21.5"); err != nil {
				log.Print(err)
			}
		case s := <-settings:
			fmt.Println("settings:", s)
		case <-ctx.Done():
		}
	}
	end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := d.close(end); err != nil {
		log.Print(err)
	}
}

// device has both connections.
type device struct {
	old   *pahoauto.ConnectionManager
	stop  context.CancelFunc // ends old
	store *sqlite.Store
	new   *autopaho.Client
}

// newDevice connects. It does not wait for the broker.
func newDevice(ctx context.Context, broker, file string, settings chan<- string) (*device, error) {
	server, err := url.Parse(broker)
	if err != nil {
		return nil, err
	}
	d := new(device)
	// As it was: a subscription to settings, of which the last one counts.
	ctx, d.stop = context.WithCancel(context.WithoutCancel(ctx))
	d.old, err = pahoauto.NewConnection(ctx, pahoauto.ClientConfig{
		ServerUrls: []*url.URL{server}, KeepAlive: 20, SessionExpiryInterval: 60,
		OnConnectionUp: func(cm *pahoauto.ConnectionManager, _ *paho.Connack) {
			_, err := cm.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "settings/7", QoS: 1}}})
			if err != nil {
				log.Print(err)
			}
		},
		OnConnectError: func(err error) { log.Print(err) },
		ClientConfig: paho.ClientConfig{
			ClientID: "device-7",
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){
				func(p paho.PublishReceived) (bool, error) {
					select {
					case settings <- string(p.Packet.Payload):
					case <-ctx.Done():
					}
					return true, nil
				},
			},
		},
	})
	if err != nil {
		d.stop()
		return nil, err
	}
	// New: what must not be lost. Its client ID is not device-7, which would end
	// the session of the connection above.
	if d.store, err = sqlite.Open(ctx, file, sqlite.Options{}); err != nil {
		return nil, errors.Join(err, d.close(ctx))
	}
	d.new, err = autopaho.New(ctx, autopaho.Config{
		Servers: []string{broker}, ClientID: "device-7-once", Store: d.store,
		Relay: autopaho.RelayConfig{ClientID: "device-7-outbox"},
	})
	if err != nil {
		return nil, errors.Join(err, d.close(ctx))
	}
	return d, nil
}

// report has a reading delivered. It was
//
//	d.old.Publish(ctx, &paho.Publish{Topic: "readings/7", Payload: …, QoS: 1})
//
// which fails while there is no connection, and waits for the broker. Now it is on
// disk when report returns, and is delivered whatever happens then.
func (d *device) report(ctx context.Context, reading string) error {
	_, err := d.new.Enqueue(ctx, autopaho.Message{Topic: "readings/7", Payload: []byte(reading), QoS: 1})
	return err
}

// close ends both connections: the client before its store.
func (d *device) close(ctx context.Context) error {
	var errs []error
	if d.new != nil {
		errs = append(errs, d.new.Close(ctx))
	}
	if d.store != nil {
		errs = append(errs, d.store.Close(ctx))
	}
	d.stop()
	select {
	case <-d.old.Done():
	case <-ctx.Done():
		errs = append(errs, ctx.Err())
	}
	return errors.Join(errs...)
}
