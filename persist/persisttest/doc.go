// Package persisttest is the contract of package persist as tests that every
// backend passes, and the faults with which users of a store are tested.
//
// [Run] has a subtest for each numbered rule, named by its tag, so that
// "-run 'TestStore/CLAIM-5'" runs what is demanded by [CLAIM-5]. [RunModel] lets
// a store and a model of plain maps live through the same random history.
// [NewFaulty] wraps a store so that its n-th call fails.
//
// A backend's test is a harness and two calls:
//
//	func TestStore(t *testing.T) { persisttest.Run(t, harness()) }
//	func TestModel(t *testing.T) { persisttest.RunModel(t, harness()) }
//
//	func harness() persisttest.Harness {
//		return persisttest.Harness{
//			New: func(t persisttest.T, opts persisttest.Options) persisttest.Backend {
//				return &backend{path: filepath.Join(t.TempDir(), "store"), opts: opts}
//			},
//			Durable: true, Shared: true, FrozenClock: true,
//		}
//	}
//
// where backend opens the path with a clock that its Advance moves.
//
// What a backend cannot do it says in its [Harness], and the suite then checks
// what it says instead: a store that survives nothing must come back empty.
package persisttest
