// Package postgres keeps an outbox in a PostgreSQL database, for any number of instances of
// a program: the store for those who outgrow one machine.
//
//	db, err := sql.Open("pgx", dsn) // or "postgres", of lib/pq
//	s, err := postgres.New(db)
//	ob := outbox.New(s)
//
// It imports no driver and needs PostgreSQL 13 or newer, without extensions. Events can be
// accepted in the application's own transactions, see [WithTx].
//
// # The way of an event
//
//	Create   of usual events: one statement, for all callers who came meanwhile (P1)
//	         of others: locks the keys it is about, writes rows, commits (P1)
//	         marks the keys whose head is to be chosen
//	Claim    sweeps: ended leases, what has expired, marked keys
//	         then takes the first due heads that nobody has locked, FOR UPDATE SKIP LOCKED
//	Settle   finds its rows by ID and token, deletes or reschedules them, chooses the next of their keys
//	Import   as Create, with the IDs, times and dead letters of another store; see [outbox.Copy]
//
// All transactions of the store's own are READ COMMITTED, short, bounded in what they touch, and tried again
// after a serialization failure, a deadlock, or the death of the connection, if nothing was committed.
//
// # Tables
//
//	tasks    what waits (state 0), is in flight (1) or dead (2)
//	marks    keys and LatestOnly keys that the next sweep has to look at; only added to
//	ledger   the counters of P5, as sums over rows; some rows are an instance's own, see below
//	gaps     what was dropped and no gap has told of
//	spent    Unique keys that are taken after a delivery
//
// The files in migrations say what each column and index is for.
//
// # Usual events
//
// An event is usual if nothing of it depends on what else is there: it has no Key, Unique or LatestOnly key, its
// ID is not given, and there is no quota. Usual events are accepted in one statement, which is a transaction of its own, so it
// takes one message; and whoever calls while the statements of this instance are on their way goes with the next
// one, whose commit is for all of them. A lone caller waits for nobody.
//
//   - The statement first updates a row of the ledger that belongs to the instance, and does nothing unless it
//     finds that as the instance has left it. In the row it leaves the first half of the IDs that it has given: all
//     events of a statement share it, and the second half begins with their order.
//   - If the connection dies, the row says what became of the events: the question is an update as well, so it
//     waits for a statement that is still at work, and has one that has not arrived find nothing any more.
//     Nothing is guessed, and nothing is accepted twice.
//   - When the server refuses a statement, each of its callers goes the longer way alone. So the events of one
//     call are accepted all or none, and every error is the caller's own.
//   - A caller whose context ends has done nothing if its events were not sent yet. Otherwise it waits another
//     second for the answer, and then does not know; nobody else notices.
//
// # Heads of keys (P4)
//
// Of a key only the task with head set can be claimed, so a million tasks behind a blocked one cost
// a claim nothing, and a unique index sees to it that there is one head at most, whatever the
// code does wrong. This keeps it right:
//
//   - Settle chooses the next head itself, in its own transaction and by a statement that comes after the
//     one which took the old head away. Whoever else takes one away (expire, delete, replace), brings one that is
//     none (create and import behind others, requeue), or puts one back (an ended lease), writes a
//     mark for the key in the same transaction. A task of a key with tasks is a head, or
//     stands behind one, or the key is marked: Audit checks it.
//   - The sweep at the beginning of a claim takes marks and chooses the oldest that
//     waits, unless one is in flight. One instance sweeps at a time, under an advisory
//     lock that is only tried; the others claim what is there.
//   - What is behind a head in flight is left to the settle of that. But a settle at this moment may have looked
//     for a successor before there was one. So the sweep takes a lock on the head, and where somebody has
//     one, who may be that settle, the mark stays for the next sweep.
//   - Marks are inserted, never updated, so that a transaction of the application which is
//     open for long holds nothing for which delivering waits.
//
// What is promised with concurrent writers: Create takes an advisory lock for each Key until
// it commits, and draws IDs only then. So within a key the order of the IDs is the order of
// the commits, for all instances and for transactions of the application, and events are
// claimed in that order, one at a time. Between keys, and without a key, IDs rise in the order in
// which they were drawn, which may not be that of the commits: an event may become
// visible after one with a higher ID. IDs of one instance rise from call to call. They
// come from a sequence that is set forward to the server's clock but never back, so they
// rise across restarts and jumps of the clock. After a crash of the server, and only then,
// what was handed out and not committed may be handed out once more; the random half of the ID tells them apart.
//
// # Leases
//
// A claim gives each task a token, from a sequence, and a time when it ends. An outcome
// counts if its token is still the one in the row; [outbox.ErrLeaseLost] otherwise, and
// nothing has changed. A sweep puts back what has an ended lease and leaves the token, so that a
// late outcome counts until somebody else has claimed. What an instance had in flight when it died comes
// back when its leases end; [WithLease] bounds that. Close gives everything back at once: for this
// instance it is what the law calls a restart.
//
// # Who waits for whom
//
//	room                  Create, in the process, while others of this instance have half of the pool; see below
//	advisory, by name     Create, Import and Requeue, lowest number first; also for as long as a
//	                      transaction of the application that has accepted such an event is open
//	rows of tasks         Settle, Delete, Requeue and the replacing of LatestOnly events,
//	                      by ID, lowest first; claims, sweeps and whoever chooses a head pass over what is locked
//	advisory, quota       Create and Import with WithMaxTasks
//	advisory, IDs         Create and Import with IDs given, above all others; else it is only tried
//	row of gaps           whoever drops something a gap tells of, by reason
//	row of ledger         nobody: the first that is free is taken, or a new one made; those of instances are
//	                      their own, though a version of before may hold one for a moment
//
// Each line is taken after those above it, so no two transactions of the store's own wait crosswise; should
// they still, PostgreSQL ends one, and it is tried again. A transaction of the application holds names and rows
// that nobody else can see, so delivering never waits for it. A process that is frozen or
// cut off within one of the store's own transactions is ended by the server after 20 seconds, and its locks with it.
//
// # Durable, and when
//
// Create, Requeue and Delete return after the commit is on disk, as far as the server's
// synchronous_commit says so. Settles, sweeps, and claims of tasks without a key are not
// waited for (P3): after a crash of the server the last moments of them are undone, and
// those events are delivered once more. Claims with keys are waited for: an undone one could
// let the next of a key pass a publisher that is still at work.
//
// A commit whose connection dies has an outcome that the client does not know. The server does, by
// the row of the ledger for usual events, and else by the number of the transaction, and is asked; see [Store.Create].
//
// # Time
//
// The clock is the server's, for everything, so instances need not agree. It is a wall clock:
// P12 holds as far as the server's clock is right. If it jumps, due times, leases and times-to-live
// jump with it; the order of IDs does not.
//
// # What is never a full scan
//
// Create, Import, Claim, Settle, Requeue, Delete, Stats, and listings of dead letters, of what waits and of a
// key: each reads the beginning of an index. The store's own transactions tell the planner so, since a
// table that fills and drains within a minute has no statistics, or wrong ones. Listings by name or reason alone, and
// Audit, read the table. A claim with a Match leaps from name to name, so it costs some
// microseconds for each name that waits.
//
// # What it costs
//
// README.md has figures beside River on the same server. They have taught this:
//
//   - One usual event took four messages to the server: begin, insert, ledger, commit. In one it takes half the
//     time: 0.29 ms for 0.61, beside River's 0.35. Of that the disk has 0.1 and the server 0.1.
//   - To go with others brings the rest: with 16 callers 20,000 events a second for 4,700, with 64 callers 46,000 for
//     4,000. Two groups on their way at once are better than one for two callers (4,900 and 3,700 a second), and
//     make no difference for 16 and 64; four took away a tenth to a half of these.
//   - One number from goutbox_next for all events of a statement, and no look for others of the key: batches of
//     1,000 went from 67,000 to some 110,000 a second. PostgreSQL finds out by itself that one plan does for
//     it. With values in place of arrays the server takes 0.03 ms less for one event; two texts are not worth that.
//   - As others no longer hold a connection for each caller, a claim finds one: with 64 callers 17,000 events a
//     second are delivered for 1,550.
//   - In a transaction of the application the same insert counts in the same statement, which is twice as fast:
//     three messages for four, and nothing is planned anew.
//   - Other events still take four messages. To plan their insert took the server 0.40 ms, to do it 0.17 ms, and PostgreSQL
//     planned it for each event anew; now it does so once for each connection. A claim or a sweep must not be
//     planned like that: the plan for any number of keys reads the table.
//   - Keyed events do not go with others: one whose key a transaction of the application holds would
//     keep them all waiting.
//   - A claim needs connections too, and is one among all the callers that accept. Where 64 of those had the 50
//     connections of a pool, claims waited in their queue, and 300 events a second with keys were delivered. So
//     while an outbox is started calls of Create that do not go with others have half of the pool, and wait for each other in the process; the
//     server accepts no fewer for that. With two thirds delivering still fell behind now and then.
//   - A claim is nine messages when there are marks, six when there are none: what there is to do, the sweep (begin,
//     choose, commit), then begin, candidates, lease, ledger, commit. It was 13 with one round of sweeping, up to 62
//     with eight, and each round waited for the disk: a busy server takes some milliseconds for a message, whatever is in it.
//   - A settle that chooses the next heads costs the message that the marks of its keys were, and no sweep comes after it.
//   - With 1,000 keys that drain at once, an event costs a good two times what one without a key costs (BenchmarkDrain:
//     15,200 and 35,000 a second; 12,700 with keys, in the same rounds, when each settle left marks): to become a head
//     is one more update of its row, and of the indexes that have it.
//
// # What differs from a store on one disk
//
// Releasing writes a row, so an outage is not entirely free of writes (P6), but as cheap: a
// gate that is shut claims nothing. A full disk of the server is [outbox.ErrDiskFull] for Create, and
// may be an error of Settle too: P9 does not hold. There are no quotas by bytes. An error of the database does
// not poison the store (P10): the server sees to that.
package postgres
