// Package wal is a write-ahead log: records go in at one end, are durable when Append returns, and come out again in
// the same order after a crash. It knows bytes, not what they mean, and has no goroutine and no timer of its own.
//
//	log, err := wal.Open(dir, wal.Options{})
//	last, err := log.Append(ctx, record)              // durable, all or nothing
//	for record, err := range log.Replay(from) { … }   // after a restart
//	err = log.Trim(before)                            // these are safe elsewhere now
//
// R1 … R46 in comments are rules for durable software, listed in docs/durability.md, and P1 … P12 the promises of
// goutbox, in README.md.
//
// # The way of a record
//
// [Log.Queue] copies the record into the open round and gives it its [Position] (queue.go, round.go). [Log.Wait] finds
// nobody writing, and so its caller leads: it takes the round away, writes it and syncs it once (a lazy log: writes it), tells
// Options.OnDurable, wakes all who wait, and hands the lead to one of those who queued meanwhile (commit.go). The round
// goes to the active segment, or to a new one when it does not fit (segment.go, roll.go), which is made from a spare
// (spare.go). [Log.Trim] turns segments into spares again (trim.go). After a restart [Open] checks every segment and
// tells a torn tail from damage (open.go, scan.go). What it refuses, [Verify] reads to the end (survey.go, heads.go,
// walk.go), and [Salvage] makes whole again (salvage.go).
//
// # Files
//
// The extension says what a file is, and the name sorts:
//
//	0000000000000012.wal     segment 12; complete and synced header, groups behind it
//	0000000000000003.spare   all blocks written, content of no interest; the number only makes it unique
//	0000000000000004.tmp     a spare, or a segment of Salvage, that was not finished; the next Open removes it
//	0000000000000003.wal.X   a damaged segment that Salvage has set aside, X being the suffix that it was given
//
// A spare becomes a segment in this order: header written, synced; renamed; folder synced; used. A segment becomes a
// spare in this one: renamed; folder synced; used. Other names in the folder are left alone.
//
// # Format 1
//
// Everything is little-endian; checksums are CRC-32C. A segment is a block of 4,096 bytes that begins with this header,
// and then groups:
//
//	offset  bytes  field
//	     0      8  magic 89 47 4F 57 41 4C 0D 0A
//	     8      4  version, 1
//	    12      4  where the groups begin, 4096
//	    16     16  UUID of the store
//	    32      8  number of the segment, as in its name
//	    40      8  base: positions before it are in earlier segments, and durable
//	    48      8  durable: every position up to it is durable (base-1, or more: see I6)
//	    56      8  salt, random, never 0
//	    64      8  size of the file
//	    72      4  chain: checksum of the group before base, 0 for none
//	    76      4  checksum of bytes 0 to 75
//
// Magic, version and the checksum stay where they are in every later version. A group begins at a multiple of 8 and is
// the atom of durability, its records are valid together or not at all:
//
//	offset  bytes  field
//	     0      8  salt of the segment
//	     8      4  payload bytes
//	    12      4  number of records, at least 1
//	    16      8  position of the first record
//	    24      8  position of the record before it; first-1, or less when records between have failed
//	    32      8  durable watermark: every position up to it was durable when the group was written
//	    40      4  chain: checksum of the group before, in this segment or, for the first, that of the header
//	    44      4  checksum of segment number and salt, bytes 0 to 43, and the payload
//	    48         payload: records, each a length of 4 bytes and so many bytes
//
// What is behind the last group is zeros, or bytes of an earlier use of the file, whose salt was another. The segment
// after says where a segment ends (base) and with which group (chain): it is its seal. Only the newest has no seal.
//
// # Torn or damaged
//
// Where the newest segment has no valid next group, the rest of it is searched for the salt. If its header or any valid
// group further on has a watermark at or above the missing position, something durable is damaged: [ErrCorrupt]. If
// none has, what is missing had never become durable: a torn tail, left out and reported by [Log.Recovery]. One thing
// cannot be told: damage to the groups of the very last sync, as nothing was written after it to bear witness. It
// looks like a torn tail.
//
// # Sync levels
//
// A log syncs before Append returns. With Options.Lazy it only writes then: the end of the process takes nothing, a power
// cut takes the records behind [Log.Synced], and that is always an end of the log. Sync, Close and the end of a segment
// sync; an owner that wants an interval calls Sync, as the log has no timer. What differs, and what does not:
//
//   - OnDurable, Durable, Wait, Flush and Replay go by what is written. Whoever applies records when OnDurable comes is ahead
//     of the disk, and must call Sync, and look at Synced, before anything that outlives a power cut refers to a record:
//     a checkpoint elsewhere (the log would end before it), or Trim of what a later record sums up (the log would
//     begin behind it).
//   - The watermarks of groups and headers name what was synced, never what was only written (R20). So a hole that a
//     power cut leaves in the unsynced part is a torn tail, as ever, and never ErrCorrupt. There are fewer
//     watermarks, and so damage to what was synced can be told from a tear only as far back as the last of them.
//   - Roll syncs the old segment before it makes the new one (I5). The first roll after Open writes all again that no
//     watermark vouches for (I6), which may be as much as a segment.
//   - A sync that fails poisons the log, whoever asked for it (R9). Records that were written before stay readable, and their
//     fate is open; those of the round that was being synced are failed.
//   - On a full device blocks are there before they are written to, as ever. But what the first roll after Open writes again
//     may take all of the reserve, if the last run ended in a crash with a segment full of unsynced records.
//
// # Verify and Salvage
//
// Verify takes a group for intact when its checksum is right, which is seeded with number and salt of the segment, and its
// positions rise; behind damage it looks for the salt at multiples of 8. Without a header the salt is that of the first
// group that is intact with its own tag as the salt. What is missing is told by what comes after: the group after
// a hole names the record before it, and a header the base. It stops where Open would cut a torn tail.
//
// Salvage writes all that is intact into new segments, numbered on from the old ones, under names that Open does not
// know, and syncs them; renames them; syncs the folder; and takes the old ones away, the oldest last. Until that one is
// gone, Open refuses the folder: the first new segment begins where the old log did, with a chain that continues nothing.
// And until then Verify finds all that was intact: it reads the old segments as before, and skips the positions that come
// again. A hole becomes a gap (the "position of the record before" of a group), so format 1 is not changed. Where the end
// of the log is lost there is no group to name it, so its positions are given out again: whoever has written down one of
// them elsewhere has to be told (Report.Next).
//
// # Invariants
//
// Committing (commit.go), whenever the mutex is free:
//
//   - I1 Somebody is marked as leading exactly while one goroutine leads, or a token for the lead waits in the open round.
//   - I2 A token is only sent to a round with waiters, and the last of them to give up takes it and leads.
//   - I3 So nobody waits for a round that nobody will write.
//   - I4 A position is given out once. Records that failed for want of space leave a gap, named by the next group.
//
// On the disk, at every moment and so after every crash:
//
//   - I5 A segment is synced up to the base of the next one before that gets its name, also that of a lazy log.
//   - I6 The groups that Open finds in the newest segment without a watermark above them are written once more, into the
//     segment that the first commit starts, and are synced before it gets its name. Their sync may have failed in the last
//     run, and then the pages in memory are whole and marked clean, and the disk is not; syncing them again would
//     report success and do nothing (R10). Where the device has no room for that segment, they are written again in
//     their place, byte for byte, and the log goes on behind them (resume).
//   - I7 A file that was a segment is not written to before the folder without its old name has been synced. So name and
//     header never disagree.
//     When the device is full the first segment after Open may take the place and the name of the newest one, with all
//     its groups in it: then either file is what that name stands for (wholeTail).
//   - I8 At most one segment is on its way out of the folder. So numbers have no gap.
//   - I9 Open writes no record and changes no segment. So it can be cut short and done again, and works on a full device.
//   - I10 What Synced, or a watermark on the disk, names was covered by a sync of its file that returned nil, and so was
//     everything before it.
//
// # Full and broken devices
//
// Segments have all their blocks before they are used, so the device can only be found full when a new one is made,
// which [Log.Prepare] does ahead of need (R38), and the leader where that has not come in time: it rather lets records
// of Queue fail than take the last spare. What is left of a device that has no room for a segment makes a small one;
// after a restart without either, the log goes on in the newest segment. When that has failed, [Log.Append] and [Log.Queue] are refused with
// [ErrNoSpace] as soon as less than one segment of room would be left; [Log.Write] may use that, so that work which
// makes room can be recorded (P9). Any other failed write or sync is final: [ErrPoisoned] (R9, P10).
//
// # What is assumed of the disk
//
// A sync that returned nil has brought the bytes to a place that survives a loss of power; software cannot tell a device
// that lies. Writing one sector of 512 bytes does not damage its neighbours, nor bytes of the same sector that do not
// change. A rename is atomic, and durable once the folder is synced; windows has no way to do that, there the journal of
// NTFS is trusted. Good homes are ext4 (data=ordered, barriers on; no fast_commit before Linux 5.10.94 and 5.15.27)
// and XFS. A network file system, vfat or an overlay is not.
//
// # What was tried
//
// Measured on two cores of a virtual machine that did other work too, Go 1.26, ext4, 256-byte records. The ratio is events
// per second over producers × raw syncs per second, where a raw sync is one write of the bytes of all producers and one
// fdatasync, into blocks that were written before; log and raw take turns within each run. 1.0 is a disk that does
// nothing but useful syncs. From go test ./wal -run '^$' -bench Append -benchtime 2s -count 2 in a quiet moment, with the
// range of 8 runs in all, most of them beside others' work:
//
//	producers   events/s   records/sync   ratio (range)
//	        1        7 k          1       1.1  (0.86 to 1.4)
//	        8       47 k          8       0.96 (0.72 to 0.99)
//	       64      275 k         63       0.81 (0.63 to 0.90)
//	      256      720 k        177       0.52 (0.41 to 0.53)
//
// What was learned, those marked * in an experiment before the first line of this package was written:
//
//   - A goroutine that commits for everybody gave a lone caller a fifth of this*: two switches of goroutines for each
//     record. Here the caller leads, with one allocation (the round) and no switch.
//   - Without gathering before a round 64 producers fall into two halves that take turns, 34 a sync*. gatherMax was tried
//     with 20, 50, 100 and 200 µs: 64 producers then have 56, 57 to 63, 62 and 62 records a sync; 256 have 135, 158 to
//     177, 197 and 216, but the time that it takes eats what it brings: their ratio stays. It is 100 because the
//     callers of a store come back later than those of a log: with 50 a sync had 34 records of theirs for 44.
//   - All groups of a round lie in one buffer, each behind room for its header, so one write is enough and the bytes are
//     copied once.
//   - fallocate in place of writing zeros leaves blocks that count as never written, and every sync then goes through the
//     journal: half the speed*. So spares are written in full, once, and used again.
//   - Writing the last groups of an earlier run again in their old place would be less code than I6, but relies more on
//     what is assumed of the disk: that a sector which is written with the bytes that it has keeps them when the power
//     fails. So it is done only where nothing else is left.
//   - Giving positions out again after ErrNoSpace would keep them without gaps (I4), but somebody who still waits for the
//     record that failed would be told that it is durable once another has taken its number.
package wal
