package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// examineStore looks at the store. The error is one of the URL, or the context's.
func examineStore(ctx context.Context, cfg *Config, r *Report) error {
	driver, u, err := cfg.driver()
	if err != nil {
		return err
	}
	m, ok := driver.(persist.Maintainer)
	if !ok {
		return examineThrowaway(ctx, driver, u, r)
	}
	examineStoreWay(r, u)
	found, err := m.Check(ctx, u)
	if err != nil {
		return unusableStore(ctx, r, err)
	}
	r.Store = found.Server
	for i := range found.Settings {
		examineSetting(r, &found.Settings[i])
	}
	for _, note := range found.Notes {
		r.add("store.note", Info, note, "")
	}
	if found.Limits != (persist.Limits{}) {
		r.add("store.limits", Info, fmt.Sprintf("limits of the outbox: %s", found.Limits), "")
	}
	if !examineSchema(r, &found) {
		return nil
	}
	if len(found.Missing) > 0 {
		r.add("store.rights", Warn, "this user lacks "+strings.Join(found.Missing, ", "),
			"grant what its work needs; the operations page lists the rights by role", stored()...)
	} else {
		r.add("store.rights", OK, "this user has every right that is needed", "", stored()...)
	}
	store, err := m.Open(ctx, u)
	if err != nil {
		return unusableStore(ctx, r, err)
	}
	r.add("store.open", OK, "opened", "", stored()...)
	err = examineClock(ctx, store, r)
	examineTransactions(store, r)
	if end := store.Close(context.WithoutCancel(ctx)); err == nil {
		err = end
	}
	if err != nil {
		return unusableStore(ctx, r, err)
	}
	return nil
}

// unusableStore is what an error of the store means: a mistake in the URL is the
// caller's, everything else a finding.
func unusableStore(ctx context.Context, r *Report, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var told *persist.Error
	if errors.Is(err, persist.ErrInvalid) && !errors.As(err, &told) {
		return err
	}
	r.StoreErr = err
	r.add("store.open", Bad, err.Error(), "see what it says, and the operations page of this kind of store", stored()...)
	return nil
}

// examineThrowaway is for a store that ends with the process.
func examineThrowaway(ctx context.Context, driver persist.Driver, u *url.URL, r *Report) error {
	store, err := driver.Open(ctx, u)
	if err != nil {
		return err
	}
	r.Store = u.Scheme
	r.add("store.durability", Bad, store.Durability(), "use SQLite, PostgreSQL or Redis", stored()...)
	r.add("store.open", OK, "opened", "")
	examineTransactions(store, r)
	return store.Close(ctx)
}

// examineSetting says what a setting means.
func examineSetting(r *Report, s *persist.Setting) {
	id := "store." + strings.ReplaceAll(strings.ReplaceAll(s.Name, " ", "-"), "_", "-")
	text := s.Name + "=" + s.Value
	if s.Value == "" {
		text = "no " + s.Name
	}
	if s.Loses != "" {
		text += ": " + s.Loses
	}
	severity := map[persist.Risk]Severity{
		persist.RiskNone: OK, persist.RiskFailover: Info, persist.RiskPower: Warn, persist.RiskCrash: Bad,
	}[s.Risk]
	r.add(id, severity, text, s.Remedy, stored()...)
}

// examineSchema tells whether the store has the version that this program needs, and
// can be opened without being changed.
func examineSchema(r *Report, found *persist.Report) bool {
	const id = "store.schema"
	switch {
	case found.Schema == 0:
		r.add(id, Info, "there is no store yet; who uses it first creates it, if the user may", "oncemq store migrate creates it")
	case found.Schema < found.Latest:
		r.add(id, Warn, fmt.Sprintf("version %d is older than %d, which this program needs", found.Schema, found.Latest), "oncemq store migrate upgrades it", stored()...)
	case found.Schema > found.Latest:
		r.StoreErr = fmt.Errorf("%w: version %d is newer than %d, the last that this program knows", persist.ErrSchema, found.Schema, found.Latest)
		r.add(id, Bad, r.StoreErr.Error(), "use a newer oncemq", stored()...)
	default:
		r.add(id, OK, fmt.Sprintf("version %d, the newest that this program knows", found.Schema), "")
		return true
	}
	return false
}

// MostClockSkew is by how much the clocks of the store and of this machine may differ
// without a word. Nothing is lost by it, but what compares their times is wrong by it:
// ages, and what is too old.
const MostClockSkew = time.Minute

// ClockOffset tells by how much the store's clock is ahead of this machine's, negative
// if it is behind, and how long it took to ask: the offset is no more exact than that.
func ClockOffset(ctx context.Context, store persist.Store) (offset, trip time.Duration, err error) {
	const rounds = 5
	for i := range rounds {
		before := time.Now()
		there, err := store.Time(ctx)
		if err != nil {
			return 0, 0, err
		}
		if took := time.Since(before); i == 0 || took < trip {
			trip, offset = took, there.Sub(before.Add(took/2))
		}
	}
	return offset, trip, nil
}

func examineClock(ctx context.Context, store persist.Store, r *Report) error {
	offset, trip, err := ClockOffset(ctx, store)
	if err != nil {
		return err
	}
	r.add("store.round-trip", Info, rounded(trip).String()+" to ask the store", "")
	apart := "as this machine's"
	if off := offset.Round(time.Millisecond); off.Abs() > trip+time.Millisecond {
		apart = off.Abs().String() + " ahead of this machine's"
		if off < 0 {
			apart = off.Abs().String() + " behind this machine's"
		}
	}
	if offset.Abs() > MostClockSkew {
		r.add("store.clock", Warn, "the store's clock is "+apart+": ages, and what is too old, are wrong by as much", "set both by NTP", promiseGroup)
		return nil
	}
	r.add("store.clock", OK, "the store's clock is "+apart, "", promiseGroup)
	return nil
}

// examineTransactions tells whether the application's writes can commit with ours.
func examineTransactions(store persist.Store, r *Report) {
	const id = "store.transactions"
	// Of which kind a transaction is differs, and is not known here.
	if reflect.ValueOf(store).MethodByName("WithTx").IsValid() {
		r.add(id, OK, "EnqueueTx and TxHandler are possible, in the store's database", "", promiseTx)
		return
	}
	r.add(id, Info, "no transactions with the application: EnqueueTx and TxHandler need SQLite or PostgreSQL", "", promiseTx)
}
