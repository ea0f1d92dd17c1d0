// Package doctor looks at a broker and at a store, tries out what they do, and says
// which of oncemq's promises hold with them, which are weakened, and what to change.
//
//	report, err := doctor.Run(ctx, doctor.Config{
//		Broker:  autopaho.Config{Servers: []string{"mqtt://localhost:1883"}},
//		Store:   "postgres://app@db/app",
//		Drivers: []persist.Driver{postgres.Driver{}},
//	})
//
// It connects under client IDs of its own and publishes to topics of its own, below a
// random prefix. Afterwards the retained message is removed and the sessions are ended;
// if the process dies in between, the broker ends them by itself within ten minutes. It
// changes nothing in the store, and does not create it.
package doctor
