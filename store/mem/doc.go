// Package mem keeps an outbox in memory.
//
// It keeps nothing across a restart, so P1 does not hold: it is for tests, for
// programs that can lose what waits, and for reading. One mutex, one slice
// ordered by ID, and a scan of that slice for every question: this is the
// shortest text that says what [outbox.Store] means, and the oracle that other
// stores are compared with (storetest.Agree). Where it and the comments of
// [outbox.Store] leave a choice, the choice is named beside the code.
//
// A call costs time in proportion to the number of tasks held. That is fine for
// some ten thousand of them; store/bolt is the store for more.
//
// There is no goroutine and no timer in it, so it works inside a testing/synctest
// bubble: leases end and delays pass when somebody next asks.
package mem
