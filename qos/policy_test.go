package qos

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPolicyValidate(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]Policy{
		"zero": {},
		"full": {
			Level: new(ExactlyOnce), Expiry: time.Hour, Attempts: 1, Backoff: Backoff{time.Second, time.Minute, 1.5},
			Order: Strict, WhenFull: Refuse, Receipt: true, ReceiptTimeout: time.Minute,
		},
		"limits": {
			Expiry: 4_294_967_295 * time.Second, Attempts: math.MaxInt, Backoff: Backoff{math.MaxInt64, math.MaxInt64, 10},
			ReceiptTimeout: time.Millisecond,
		},
		"least expiry":               {Expiry: time.Millisecond},
		"receipt, publisher's level": {Receipt: true},
		"receipt, level 1":           {Receipt: true, Level: new(AtLeastOnce)},
		"level 0 may be dropped":     {Level: new(AtMostOnce), WhenFull: DropOldest},
		"time-out without receipt":   {ReceiptTimeout: time.Second},
		"steady backoff":             {Backoff: Backoff{time.Second, time.Second, 1}},
	} {
		require.NoError(t, p.Validate(), name)
	}
	for _, c := range []struct {
		policy         Policy
		field, problem string
	}{
		{Policy{Level: new(Level(3))}, "level", "3 is not a QoS level; write 0, 1 or 2"},
		{Policy{Expiry: -1}, "expiry", "negative"},
		{Policy{Expiry: time.Microsecond}, "expiry", "write 1ms or more"},
		{Policy{Expiry: 4_294_967_295*time.Second + 1}, "expiry", "at most 4294967295s"},
		{Policy{Attempts: -1}, "attempts", "-1 is negative"},
		{Policy{Backoff: Backoff{Initial: -time.Second}}, "backoff.initial", "-1s is negative"},
		{Policy{Backoff: Backoff{Max: -time.Second}}, "backoff.max", "-1s is negative"},
		{Policy{Backoff: Backoff{Initial: 2, Max: 1}}, "backoff.max", "1ns is less than backoff.initial, 2ns"},
		{Policy{Backoff: Backoff{Factor: 0.99}}, "backoff.factor", "0.99 is out of range; write 1 to 10"},
		{Policy{Backoff: Backoff{Factor: 11}}, "backoff.factor", "11 is out of range"},
		{Policy{Backoff: Backoff{Factor: -2}}, "backoff.factor", "-2 is out of range"},
		{Policy{Backoff: Backoff{Factor: math.NaN()}}, "backoff.factor", "NaN is out of range"},
		{Policy{Backoff: Backoff{Factor: math.Inf(1)}}, "backoff.factor", "+Inf is out of range"},
		{Policy{Order: 2}, "order", "2 is not an order"},
		{Policy{WhenFull: 2}, "when_full", "2 is not a choice"},
		{Policy{Receipt: true, Level: new(AtMostOnce)}, "receipt", "at level 0; raise level"},
		{Policy{Receipt: true, WhenFull: DropOldest}, "receipt", "may be dropped; set when_full to refuse"},
		{Policy{ReceiptTimeout: -1}, "receipt_timeout", "negative"},
		{Policy{ReceiptTimeout: 1}, "receipt_timeout", "write 1ms or more"},
	} {
		err := c.policy.Validate()
		requireFieldError(t, err, c.field, c.problem)
		require.Len(t, joined(err), 1, c.field)
	}
}

func TestPolicyValidateListsAll(t *testing.T) {
	t.Parallel()
	err := Policy{
		Level: new(Level(9)), Expiry: -1, Attempts: -1, Backoff: Backoff{-1, -1, -1}, Order: 9, WhenFull: 9, ReceiptTimeout: -1,
	}.Validate()
	require.Equal(t, []string{
		"level", "expiry", "attempts", "backoff.initial", "backoff.max", "backoff.factor", "order", "when_full", "receipt_timeout",
	}, fieldsOf(err))
}

func TestStringsOfSettings(t *testing.T) {
	t.Parallel()
	require.Equal(t, "pipelined", Pipelined.String())
	require.Equal(t, "strict", Strict.String())
	require.Equal(t, "order 7", Order(7).String())
	require.Equal(t, "refuse", Refuse.String())
	require.Equal(t, "drop-oldest", DropOldest.String())
	require.Equal(t, "when_full 7", WhenFull(7).String())
}

func TestBackoffCeiling(t *testing.T) {
	t.Parallel()
	var waits []time.Duration
	var total time.Duration
	for attempt := 1; attempt < DefaultAttempts; attempt++ {
		waits = append(waits, Backoff{}.Ceiling(attempt))
		total += waits[attempt-1]
	}
	const ms = time.Millisecond
	require.Equal(t, []time.Duration{
		100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, 12800 * ms, 25600 * ms, 30000 * ms, 30000 * ms,
	}, waits[:11])
	require.Less(t, total, 11*time.Minute, "as DefaultAttempts documents")
	require.Greater(t, total, 10*time.Minute)

	for _, c := range []struct {
		backoff Backoff
		attempt int
		want    time.Duration
	}{
		{Backoff{}, 0, 100 * ms},
		{Backoff{}, -5, 100 * ms},
		{Backoff{}, math.MaxInt, 30 * time.Second},
		{Backoff{Factor: 1}, math.MaxInt, 100 * ms},
		{Backoff{Max: 50 * ms}, 1, 50 * ms},
		{Backoff{Initial: time.Minute}, 9, time.Minute},
		{Backoff{Initial: 100 * ms, Max: time.Second, Factor: 1.5}, 3, 225 * ms},
		{Backoff{math.MaxInt64, math.MaxInt64, 10}, 99, math.MaxInt64},
		{Backoff{1, math.MaxInt64, 10}, 99, math.MaxInt64},
		// Not valid, and still no panic and no negative wait.
		{Backoff{Initial: -1}, 1, 0},
		{Backoff{Max: -1}, 1, 0},
		{Backoff{Factor: math.NaN()}, 2, 30 * time.Second},
		{Backoff{Factor: math.Inf(1)}, 2, 30 * time.Second},
	} {
		require.Equal(t, c.want, c.backoff.Ceiling(c.attempt), "%+v, attempt %d", c.backoff, c.attempt)
		delay := c.backoff.Delay(c.attempt)
		require.GreaterOrEqual(t, delay, time.Duration(0))
		require.LessOrEqual(t, delay, c.want)
	}
}

// Full jitter: the waits fill the whole range. That none of 1,000 falls into
// one of its quarters would happen once in 10^124 runs.
func TestBackoffDelayFillsItsRange(t *testing.T) {
	t.Parallel()
	b := Backoff{Initial: time.Second}
	var quarters [4]int
	for range 1000 {
		quarters[b.Delay(1)*4/time.Second]++
	}
	for i, n := range quarters {
		require.NotZero(t, n, "quarter %d", i)
	}
}

// joined takes an error of errors.Join apart.
func joined(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}

func fieldsOf(err error) []string {
	var fields []string
	for _, e := range joined(err) {
		var fe *FieldError
		if errors.As(e, &fe) {
			fields = append(fields, fe.Field)
		}
	}
	return fields
}
