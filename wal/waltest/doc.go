// Package waltest has a file system in memory for tests of what is built on package wal: it loses power at any moment
// and fails on demand, always in the same way for the same seed.
//
// # Crashes
//
// An [FS] records every operation that changes it. [FS.Crash] returns what a computer would find on its disk had the
// power gone after the first n of them:
//
//   - Bytes written since the last Sync of their file are lost, kept, or torn: each sector of 512 bytes goes its own
//     way. Where a file had grown, lost sectors read as zeros or as garbage.
//   - Entries made, renamed or removed since the last SyncDir of their folder are lost or kept, each on its own and in
//     any combination, but a rename is never half done. A Sync of a file says nothing about its entry.
//   - What a failed Sync has dropped is gone, though it could be read until the crash (R10).
//
// Seed 0 loses all that is not durable, seed 1 keeps it, every other seed mixes. A test does its work once, notes what
// has been acknowledged after how many operations, and then looks at every crash:
//
//	for n := range disk.Ops() + 1 {
//		recovered, err := wal.Open("wal", wal.Options{FS: disk.Crash(n, seed)})
//		...
//	}
//
// # Faults
//
// [FS.Inject] installs a function that is asked before every operation and may answer with a [Fault]: an error, a
// short write, a sync that drops what it should have written. [FS.SetFree] makes the device full.
//
// As on windows, a file that is open can be neither renamed nor removed.
package waltest
