package demo
import ("testing";"time";"context"; "github.com/stretchr/testify/require")
func TestZZ(t *testing.T) {
	b := startBroker(t, 4)
	replica := connect(t, b, "replica-1")
	_, goOn := subscribe(t, replica)
	close(goOn)
	o := Options{Folder: t.TempDir(), ReceiptTimeout: 500*time.Millisecond}.withDefaults()
	p, err := newPublisher(t.Context(), "mqtt://"+b.addr, &o)
	require.NoError(t, err)
	for i := range 30 {
		require.NoError(t, p.enqueue(t.Context(), 50))
		time.Sleep(time.Duration(i%10)*time.Millisecond)
		require.NoError(t, b.kill())
		d,_ := p.counts()
		time.Sleep(100*time.Millisecond)
		require.NoError(t, b.start(t.Context()))
		n := p.accepted()
		for j := range 300 {
			time.Sleep(10*time.Millisecond)
			if d2, _ := p.counts(); d2 == n { t.Log(i, "delivered at kill", d, "of", n); break }
			if j == 299 { d2,_ := p.counts(); t.Fatal(i, "stuck", d, d2, n, p.client.Status(t.Context())) }
		}
	}
	require.NoError(t, p.close(context.Background()))
}
