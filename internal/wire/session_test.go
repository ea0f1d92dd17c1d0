package wire

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/oncemq/oncemq/persist"
)

func exchanges(step persist.PacketStep, id uint16, position int64, n int) []persist.PacketState {
	states := make([]persist.PacketState, n)
	for i := range states {
		states[i] = persist.PacketState{PacketID: id + uint16(i), Step: step, Position: position + int64(i)}
	}
	return states
}

// The exchanges of a window are a few runs, whatever its size.
func TestSessionIsSmall(t *testing.T) {
	t.Parallel()
	states := exchanges(persist.StepReleased, 65000, 1<<40, 500)
	states = append(states, exchanges(persist.StepPublished, 65500, 1<<40+500, 36)...)
	states = append(states, exchanges(persist.StepPublished, 1, 1<<40+536, 500)...) // identifiers go round
	b, err := AppendSession(nil, states)
	require.NoError(t, err)
	require.LessOrEqual(t, len(b), 40)
	got, err := DecodeSession(b)
	require.NoError(t, err)
	require.Equal(t, states, got)
}

// The layout of version 1, which every later program reads.
func TestSessionVersion1(t *testing.T) {
	t.Parallel()
	states := append(exchanges(persist.StepReleased, 7, 100, 2), exchanges(persist.StepPublished, 3, 99, 1)...)
	b, err := AppendSession([]byte("before"), states)
	require.NoError(t, err)
	require.Equal(t, "before\x01\x02\x02\x0e\xc8\x01\x01\x01\x09\x03", string(b[:len(b)-checksumSize]))
	got, err := DecodeSession(b[len("before"):])
	require.NoError(t, err)
	require.Equal(t, states, got)

	b, err = AppendSession(nil, nil)
	require.NoError(t, err)
	require.Empty(t, b)
	got, err = DecodeSession(b)
	require.NoError(t, err)
	require.Empty(t, got)
}

func TestSessionOfAnyKind(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		states := rapid.SliceOf(rapid.Custom(func(t *rapid.T) persist.PacketState {
			return persist.PacketState{
				PacketID: rapid.Uint16().Draw(t, "id"), Step: persist.PacketStep(rapid.IntRange(1, 3).Draw(t, "step")),
				Position: rapid.Int64().Draw(t, "position"),
			}
		})).Draw(t, "states")
		b, err := AppendSession(nil, states)
		require.NoError(t, err)
		got, err := DecodeSession(b)
		require.NoError(t, err)
		require.Len(t, got, len(states))
		for i := range states {
			require.Equal(t, states[i], got[i])
		}
	})
}

func TestSessionThatIsNone(t *testing.T) {
	t.Parallel()
	for _, step := range []persist.PacketStep{0, 4, math.MaxUint8} {
		_, err := AppendSession(nil, []persist.PacketState{{PacketID: 1, Step: step}})
		require.Error(t, err)
	}
	good, err := AppendSession(nil, exchanges(persist.StepPublished, 1, 1, 3))
	require.NoError(t, err)
	for n := 1; n < len(good); n++ {
		_, err := DecodeSession(good[:n])
		require.ErrorIs(t, err, persist.ErrCorrupt, "%d bytes", n)
	}
	for i := range good {
		bad := append([]byte(nil), good...)
		bad[i] ^= 0x40
		_, err := DecodeSession(bad)
		require.ErrorIs(t, err, persist.ErrCorrupt, "byte %d", i)
	}
}

// Bytes with a right checksum that nobody wrote are read without harm.
func FuzzDecodeSession(f *testing.F) {
	good, err := AppendSession(nil, exchanges(persist.StepReleased, 65000, 5, 600)[:500])
	require.NoError(f, err)
	f.Add(good[:len(good)-checksumSize])
	f.Add([]byte{1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		sealed := appendChecksum(b)
		states, err := DecodeSession(sealed)
		if err != nil {
			require.ErrorIs(t, err, persist.ErrCorrupt)
			return
		}
		require.LessOrEqual(t, len(states), maxStates)
		for _, p := range states {
			require.True(t, p.Step >= persist.StepPublished && p.Step <= persist.StepReceived)
		}
	})
}

func appendChecksum(b []byte) []byte {
	sum := checksum(b)
	return append(append([]byte(nil), b...), byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24))
}
