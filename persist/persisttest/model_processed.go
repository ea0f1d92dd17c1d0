package persisttest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/oncemq/oncemq/persist"
)

// modelKey is one dedup key of a group.
type modelKey struct {
	group, key string
	standing   modelStanding
	claim      persist.Claim   // the last one given out
	claims     []persist.Claim // all of them
	attempts   int
	until      time.Duration
	// maybeGone: a sweep may have forgotten it. gone: it was forgotten.
	maybeGone, gone bool
}

// forget makes all claims of the key void. Their epochs are remembered.
func (k *modelKey) forget() { k.gone, k.maybeGone, k.attempts = true, false, 0 }

// modelStanding is what became of a key.
type modelStanding uint8

const (
	keyInWork modelStanding = iota
	keyReleased
	keyCompleted
)

// key is the model's key, nil if nothing is known of it.
func (m *model) key(group, key string) *modelKey { return m.keys[[2]string{group, key}] }

func drawGroup(t *rapid.T) string {
	return rapid.SampledFrom([]string{"g", "g", ""}).Draw(t, "group")
}

func drawKeys(t *rapid.T) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"k0", "k1", "k2", "k3", ""}), 1, 3, rapid.ID[string]).Draw(t, "keys")
}

func (m *model) claimKeys(t *rapid.T) {
	group, names, ttl := drawGroup(t), drawKeys(t), ticks(t, "ttl", 5)
	claims := m.claims(group, ttl, names...)
	for i, claim := range claims {
		k := m.key(group, names[i])
		if k != nil && !k.gone && k.standing == keyCompleted && m.now < k.until {
			require.Equal(m, persist.ClaimCompleted, claim.State)
			continue
		}
		if k != nil && !k.gone && k.standing == keyInWork && m.now < k.until {
			require.Equal(m, persist.ClaimBusy, claim.State)
			m.around(k.until-m.now, claim.Remaining, "remaining")
			continue
		}
		if k == nil {
			k = &modelKey{group: group, key: names[i]}
			m.keys[[2]string{group, names[i]}] = k
		}
		if k.standing == keyCompleted {
			k.attempts = 0
		}
		require.Equal(m, persist.ClaimGranted, claim.State)
		if k.maybeGone && claim.Attempts == 1 {
			k.attempts = 0
		}
		require.Equal(m, k.attempts+1, claim.Attempts, "attempts")
		require.Greater(m, claim.Epoch, k.claim.Epoch, "the epochs of a key rise")
		k.standing, k.claim, k.attempts, k.until = keyInWork, claim, claim.Attempts, m.now+ttl
		k.maybeGone, k.gone = false, false
		k.claims = append(k.claims, claim)
	}
}

// drawClaims draws claims of one group that were given out at some time, of
// each key one at most.
func (m *model) drawClaims(t *rapid.T) (string, []persist.Claim) {
	group := drawGroup(t)
	var claims []persist.Claim
	for _, name := range drawKeys(t) {
		k := m.key(group, name)
		switch {
		case k == nil:
			claims = append(claims, persist.Claim{Key: name, Epoch: 1})
		case len(k.claims) > 1 && rapid.IntRange(0, 2).Draw(t, "stale") == 0:
			claims = append(claims, rapid.SampledFrom(k.claims).Draw(t, "claim"))
		default:
			claims = append(claims, k.claim)
		}
	}
	return group, claims
}

// mine tells whether a claim is the last of its key, which is not released.
func (k *modelKey) mine(claim persist.Claim) bool {
	return k != nil && !k.gone && k.claim.Epoch == claim.Epoch && k.standing != keyReleased
}

func (m *model) renewKeys(t *rapid.T) {
	group, claims := m.drawClaims(t)
	ttl := ticks(t, "ttl", 5)
	held, err := m.store.RenewClaims(m.ctx, group, claims, ttl)
	require.NoError(m, err)
	require.Len(m, held, len(claims))
	for i, claim := range claims {
		k := m.key(group, claim.Key)
		want := k.mine(claim) && k.standing == keyInWork
		if want && k.maybeGone && !held[i] {
			k.forget()
			continue
		}
		require.Equal(m, want, held[i], "held")
		if want {
			k.until, k.maybeGone = m.now+ttl, false
		}
	}
}

func (m *model) completeKeys(t *rapid.T) {
	group, claims := m.drawClaims(t)
	window := ticks(t, "window", 20)
	completions := make([]persist.Completion, len(claims))
	for i, claim := range claims {
		completions[i].Claim = claim
		if rapid.Bool().Draw(t, "dead") {
			m.serial++
			dead := letter(fmt.Sprint("dead", m.serial))
			completions[i].Dead = &dead
		}
	}
	done, err := m.store.Complete(m.ctx, group, completions, window)
	require.NoError(m, err)
	require.Len(m, done, len(claims))
	for i, claim := range claims {
		k := m.key(group, claim.Key)
		want := k.mine(claim)
		if want && k.maybeGone && !done[i] {
			k.forget()
			continue
		}
		require.Equal(m, want, done[i], "completed")
		if !want {
			continue
		}
		if k.standing == keyInWork && completions[i].Dead != nil {
			m.letters = append(m.letters, &modelLetter{letter: *completions[i].Dead})
		}
		k.standing, k.until, k.maybeGone = keyCompleted, m.now+window, false
	}
}

func (m *model) releaseKeys(t *rapid.T) {
	group, claims := m.drawClaims(t)
	require.NoError(m, m.store.Release(m.ctx, group, claims))
	for _, claim := range claims {
		if k := m.key(group, claim.Key); k.mine(claim) && k.standing == keyInWork {
			k.standing = keyReleased
		}
	}
}

// forgettable tells whether ExpireProcessed may forget a key.
func (k *modelKey) forgettable(now time.Duration) bool {
	if k.gone {
		return false
	}
	if k.standing == keyInWork {
		return now >= k.until+24*time.Hour
	}
	return now >= k.until
}

func (m *model) expireKeys(t *rapid.T) {
	limit := rapid.IntRange(1, 20).Draw(t, "limit")
	most := 0
	for _, k := range m.keys {
		if k.forgettable(m.now) {
			most++
			k.maybeGone = true
		}
	}
	require.LessOrEqual(m, m.expire(limit), min(most, limit), "keys that may be forgotten")
}

func (m *model) forgetKeys(t *rapid.T) {
	group, names := drawGroup(t), drawKeys(t)
	least, most := 0, 0
	for _, name := range names {
		if k := m.key(group, name); k != nil && !k.gone && k.standing == keyCompleted {
			most++
			if m.now < k.until {
				least++
			}
			k.forget()
		}
	}
	n, err := m.store.Forget(m.ctx, group, names)
	require.NoError(m, err)
	require.GreaterOrEqual(m, n, least)
	require.LessOrEqual(m, n, most)
}
