// Package persisttest is the contract of package persist as tests that every
// backend passes, and the faults with which users of a store are tested.
//
// [Run] has a subtest for each numbered rule, named by its tag, so that
// "-run 'TestStore/CLAIM-5'" runs what is demanded by [CLAIM-5]. [RunModel] lets
// a store and a model of plain maps live through the same random history.
// [NewFaulty] wraps a store so that its n-th call fails.
//
// What a backend cannot do it says in its [Harness], and the suite then checks
// what it says instead: a store that survives nothing must come back empty.
package persisttest
