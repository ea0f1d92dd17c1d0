package drill

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// results are two, a good one and a bad one.
func results() []*Result {
	return []*Result{
		{
			Scenario: "session-forgotten", Seconds: 12.04, RecoverySeconds: 0.42, Sent: 1200, Delivered: 1200,
			WireDuplicates: 31, Suppressed: 30, Reconnects: 15, State: StateSettled, OK: true,
			Errors: map[string]int{"reset": 15, "refused": 120, "timeout": 3, "closed": 2},
		},
		{Scenario: "cut", Seconds: 61, RecoverySeconds: -1, Sent: 700, Delivered: 690, Lost: 10, Doubled: 2, Open: 7, State: StateOpen},
	}
}

func written(t *testing.T, width int, colour bool) string {
	t.Helper()
	var out strings.Builder
	table := Table{W: &out, Width: width, Colour: colour}
	for _, r := range results() {
		require.NoError(t, table.Row(r))
	}
	return out.String()
}

func TestTable(t *testing.T) {
	t.Parallel()
	require.Equal(t, `scenario            time  sent delivered copies suppressed lost doubled recovery reconnects  state       errors
session-forgotten 12.0 s  1200      1200     31         30    0       0    0.4 s         15  settled     closed 2, refused 120, reset 15, timeout 3
cut               61.0 s   700       690      0          0   10       2    never          0  7 open      none
`, written(t, 0, false))
	require.Contains(t, written(t, 0, true), "\x1b[32msession-forgotten\x1b[0m")
	require.Contains(t, written(t, 0, true), "\x1b[31mcut  ")
	require.Contains(t, written(t, 80, false), "\n  settled, 15 reconnects; errors: closed 2, refused 120, reset 15, timeout 3\n")
}

// No line wraps on a terminal of 40 columns, nor do the counts on one of 80.
func TestTableFits(t *testing.T) {
	t.Parallel()
	for _, width := range []int{40, 60, 80} {
		text := written(t, width, false)
		for line := range strings.Lines(text) {
			if width < medium || !strings.HasPrefix(line, "  ") {
				require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), width, line)
			}
		}
		for _, want := range []string{"session-forgotten", "lost", "doubled", "recovery", "never", "refused"} {
			require.Contains(t, text, want)
		}
	}
	p := Progress{Scenario: "session-forgotten", Phase: PhaseFault, Step: "waiting for packet 12", Sent: 12345, Effects: 12345}
	require.Less(t, len(p.Line(40)), 40)
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	all := results()
	require.Equal(t, "Nothing lost, nothing doubled in 1 scenario; seed 7.", Verdict(all[:1], 7))
	require.Equal(t, "10 lost, 2 doubled in 2 scenarios; seed 7.", Verdict(all, 7))
	var b strings.Builder
	require.NoError(t, (&Table{W: &b, Width: 30}).Verdict(all, 7))
	require.Equal(t, "10 lost, 2 doubled in 2\nscenarios; seed 7.\n", b.String())
	all[1].Lost, all[1].Doubled = 0, 0
	refused := &Result{Scenario: "cut", Sent: 9, Delivered: 2, Failed: 7, Reason: "not authorized (0x87)", State: StateFailed}
	require.Equal(t, "Nothing lost, nothing doubled; 7 failed and are dead letters in 1 scenario; seed 7.", Verdict([]*Result{refused}, 7))
	b.Reset()
	require.NoError(t, (&Table{W: &b}).Row(refused))
	require.Contains(t, b.String(), "7 failed    failed: not authorized (0x87)\n")
	require.Equal(t, "Nothing lost, nothing doubled; 1 did not come to rest in 2 scenarios; seed 7.", Verdict(all, 7))
}

// A drill in which nothing was sent has shown nothing, and is not called a success.
func TestVerdictOfNothing(t *testing.T) {
	t.Parallel()
	good := results()[0]
	idle := &Result{Scenario: "cut", State: StateIdle}
	require.Equal(t, "Nothing was sent in 1 scenario, which shows nothing; seed 7.", Verdict([]*Result{idle}, 7))
	require.Equal(t, "Nothing lost, nothing doubled in 2 scenarios; nothing was sent in 1 of them, which shows nothing; seed 7.", Verdict([]*Result{good, idle}, 7))
}

func TestResultJSON(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(results()[0])
	require.NoError(t, err)
	require.Equal(t, `{"scenario":"session-forgotten","seed":0,"broker":"","sabotage":"none","receipts":false,"seconds":12.04,`+
		`"recovery_seconds":0.42,"sent":1200,"delivered":1200,"wire_duplicates":31,"resent":0,"suppressed":30,"lost":0,"doubled":0,`+
		`"unknown":0,"failed":0,"open":0,"reconnects":15,"sessions_lost":0,"errors":{"closed":2,"refused":120,"reset":15,"timeout":3},`+
		`"state":"settled","ok":true}`, string(b))
}
