// Package bolt keeps an outbox on local disk: a write-ahead log in front of a bbolt
// database.
//
// # Two levels
//
// Accepting an event appends one record to the log and waits for the sync that it
// shares with everybody else who is waiting (P1). From then on the task is in the
// overlay, in memory. If it is delivered before long, one more small record is
// written, and that was all: the database is not touched. What has to wait longer,
// a retry, a delay, an outage, is moved to the database many at a time, by a
// checkpoint, and leaves memory.
//
//	Create  ->  log, one shared sync  ->  overlay  ->  Claim  ->  Settle  ->  log
//	                                        |            ^
//	                            checkpoint  v            |  refill
//	                                       database, bucket by bucket
//
// A folder looks like this:
//
//	outbox.db          the database; its buckets are listed in database.go
//	outbox.db.tmp      its smaller copy, while it is compacted; removed when found
//	wal/000….wal       the log; its format is in package wal, its records in op.go
//	LOCK               held while the store is open (R7)
//
// # What holds at every moment
//
//	I1  An entry that is not in the database is dirty, and the log still has every
//	    record from its dirtyAt on.
//	I2  An entry that waits and is idle is in its lane, if it has a key, and in one
//	    of the heaps of its queue, if it has no key or is the known head of its lane.
//	I3  A task whose place in the due bucket (sheet.go) is before the floor of its queue, or
//	    behind its roof and not behind its top, is in memory, or is not the head of
//	    its key. Between top and above there is none. A queue that is not in memory
//	    has nothing in the database.
//	I4  A lane's tasks in the database with an ID below lane.seen are in memory.
//	I5  The database's state is that of its log position, or further: replaying the
//	    log from there gives the same state once or twice (R29, R30).
//	I6  The ledger changes with log records only, and by what the record says,
//	    whatever is left of the task that it is about (P5). See change.effect.
//	I7  The database's usage record is the sum over its tasks and dead buckets, and
//	    Store.use is that, changed by what the entries in memory have moved (P8).
//
// A record changes the overlay when it is durable (at the lower levels of WithSync, when
// it is written; see secureLog), never before, in the order of
// the log, in one function for the running store and for recovery: apply. What a
// store only knows for this moment, claims and releases, is not written at all, so
// an outage writes nothing (P6).
//
// # Quotas
//
// Room is taken, under mu, when a create is queued, and given back when what ends a
// task is queued, so what is not durable yet counts: room.go. What is dropped for a
// new event is in the same group of the log as the event, so no crash and no full
// disk drops one for an event that was not accepted. What a task costs is in usage.go,
// who is dropped in victims.go.
//
// # Gaps
//
// Each drop by a quota or a time-to-live says in its record what a gap will tell of it,
// and the sums of that are part of the database's state: what was dropped is told or
// untold, never both (P5). One record makes the event that tells and empties the sum:
// gap.go. A drop of that kind costs 17 bytes more in the log than another.
//
// # Checkpoints
//
// A checkpoint is due when the overlay has 16,384 tasks or 8 MiB, when the log has
// three full segments that lighten cannot free, when nothing has happened for a minute, and at Close. It
// writes what is dirty, sorted, at most 8,192 tasks or 4 MiB in a transaction, and
// stores the log position in the last one (R29, R31); where there was no room for all,
// advance takes the position of the oldest record that only the log has. If nothing in the older part
// of the log is needed any more, because it was all delivered, the log is recycled
// without a checkpoint: a baseline record carries the ledger over.
//
// Accepting never waits for the database's writer lock. While an application holds
// it, the overlay grows to twice its bound; then Create fails with
// [outbox.ErrFull] after a second.
//
// # Goroutines
//
// start, for Open and Attach, begins them, each ends with Close through stop, and Close
// waits for them: the syncer (what was settled, and Interval), the flusher
// (checkpoints, room in log and database, indexes), the keeper where there is a quota,
// the compactor where the database is the store's own.
//
// # When something is wrong
//
// A full disk: reserve.go keeps room ready, pace.go goes in smaller steps. A database
// larger than it must be: compact.go. Room is a word for three things: that in memory
// (makeRoom), in the quota (room.go), and on the disk (reserve.go).
//
// A damaged page: guard.go looks before bbolt does, contain.go turns its panics into
// errors. A damaged value: damaged.go sets its task apart; a damaged index: reindex.go
// makes it anew from the tasks. verify.go reads a closed store, audit.go recounts one at
// work.
//
// # Time
//
// Due times, leases, time-to-live and the time for which a Unique key stays taken after a
// delivery (spent.go) are on the store's own clock, which clock.go explains. IDs rise whatever the clock does (id.go).
//
// # Order
//
// Each class of [outbox.Priority] and each event name has a queue of its own, in memory
// (queue.go) and in the database, whose due bucket is sorted by queue (place.go). So a
// claim reads what it wants and nothing else, however much waits in front of it, and
// memory knows of a queue where it begins and, for claims of the newest, where it ends
// (scan.go, pick.go). Which queue a task is in follows from its bytes and never changes.
// Names without bound share a queue (P7), and so do the tasks of stores that were written
// before there were queues: their places stay where they are, so upgrading a store costs
// the same whatever waits in it (P8).
//
// Within a class tasks are claimed by due time, then by ID, or the other way round. Of
// one key only the head can be claimed: the lowest ID that waits or is in flight. The
// database lists only the heads of keys in its due bucket, so a million tasks behind a
// blocked key cost a claim nothing (P4). An event accepted in a transaction takes the
// place of its ID among those that wait, not that of its commit: an order by commit
// would need a second sequence on disk, which bbolt can give no number before the
// commit, and the IDs that consumers see would disagree with the order in which they
// see them.
//
// A dead letter may park its key for all that is younger: see park.go. Whether one does
// follows from the dead letters alone, and a claim knows it before it takes a head (P4).
//
// # What it assumes of the disk
//
// That a write that was synced stays, that a rename is atomic once its folder was
// synced, and that a torn write tears at sectors. See package wal. A disk that lies
// about syncing can not be found out by software.
//
// # What was tried for speed
//
// On two cores and ext4, payloads of 256 bytes, while nobody drains, with
//
//	go -C cmd/bench run . -workloads enqueue,batch -duration 1s
//
// The ratio is to the ceiling that cmd/bench measures in the same run, on a disk that syncs
// 11,000 times a second. One caller has 0.9 of it, 64 have 0.25 to 0.30, 256 have 0.09. With 64 an
// event takes 6 µs of processor time, of which 1.9 are Create, 2.4 the checkpoint, and the rest
// the kernel, the collector and changes of goroutines.
//
//   - A key of the due bucket for each task: to list it took a checkpoint as long as to write it.
//     Sheets brought 15 to 20 % more events in batches and in drains, and a file a sixth smaller.
//   - Taking what has moved out of the heaps one by one was an eighth of a checkpoint; all at once
//     brings 4 %, and keeping the array of a snapshot another 3 %.
//   - Sorting copies of entries in the order of a map, copying each value to append its CRC, and
//     taking the oldest out of a heap first were a third of a checkpoint's time; with 256 callers
//     their end brought a quarter more events.
//   - Three looks under the mutex, four maps and five allocations fewer in Create: 64 callers got
//     a tenth more, 256 nothing.
//   - Bounds twice as large for memory: 2 % more, for 40 MiB.
//   - Pages of 8 and 16 KiB in place of 4: 12 and 17 % more in batches, as bbolt writes each page
//     with a call of its own. But a commit of one task writes 107 and 197 KB in place of 54,
//     and such commits are what an idle store in an outage and a transaction of the application are.
//   - Callers come back sooner or later: gathering none or 20 µs gave 64 callers 0.23 and 0.28 of the
//     ceiling beside 0.29 with 50, and 100 or 250 no more while nobody drains. See also package wal.
//   - Two rounds of the log on their way at once would fill the time in which the disk syncs: but
//     two threads that write and sync get 1.1 to 1.2 times the syncs of one here, each in nearly
//     twice the time. GOMAXPROCS of 3 and 4, so that a sync holds no processor: nothing.
//   - Segments that were freed three at a time, when two are kept, had to be made anew, full of
//     zeros: twice the bytes. See recycle.
//
// Where the limit is: without any checkpoint (an experiment, memory without bound) 64 callers have
// 0.34 of the ceiling, 256 have 0.14, and a batch of 1,000 brings 609,000 events/s. The log alone,
// with callers who do nothing else, gives 0.85 and 0.52. So with many callers two processors are the
// bound, not the disk: half of its ceiling with 64 callers is 350,000 events/s, for each of which there are 5.7 µs
// of both processors if neither ever waits. An event takes 6, and they wait for a third of the time, since
// nobody has anything to do while the disk syncs what all wait for. On a slower disk the
// same store is nearer to the ceiling: on ext4 in a file behind a loop device, with half as many syncs a
// second, it has 1.0, 0.43 and 0.17 of it.
//
// What would bring more: a leader of the log who encodes nothing, but dates and enters the tasks of
// all who wait under one lock; and tasks of one queue in one value of some 64, as sheets have their
// places, which changes what Verify, Salvage and quotas know of a task.
package bolt
