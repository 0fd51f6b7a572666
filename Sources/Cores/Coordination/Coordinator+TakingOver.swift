import Content
import Digests
import Messages
import Primitives
import Record
import Telemetry
import Training
import Wire

/// A leader that the electors have elected: it goes on where the one before was.
///
/// Nothing of the running round begins anew. Who is a member, the plan and the round are in the record; members say to the newer term again
/// how far they are, what they sent and what they hold. Lines are taken from the plan as they were measured; nobody is planned anew because
/// the leader is another.
extension Coordinator {
    /// - Parameters:
    ///   - record: all entries that are here; those that are committed are marked so.
    ///   - receipts: that entries rest on, opened: a job may have a hundred thousand, and a leader that stands still is none.
    ///   - content: the job's text.
    init(
        takingOver record: Record, _ receipts: ReceiptShelf, content: StoredBytes, _ provisions: ElectorDesk.Provisions,
        key: SigningKey, term: Int, liars: Set<PeerID>, at now: Instant
    ) {
        var text = ContentShelf()
        // Where it cannot be read any more, members have it.
        _ = text.put(content, at: now)
        var options = provisions.options
        options.lease = record.genesis.lease
        options.silence = record.genesis.silence
        self.init(record, text, key: key, term: term, options: options, wall: provisions.wall, at: now)
        timers.seats = ElectorSeats()
        for peer in liars { timers.seats!.unfit[peer] = .hasLied }
        books = Books(receipts)
        restore(provisions.checkpoint)
        // Where the units that the job begins with are not here, whoever holds them has them.
        if checkpoint.round == nil { try? begin(with: provisions.initial) }
        adoptMembers()
        lines = LineBook(term: term, plan: state.plan)
        beginStage()
        let isFirst = record.length == 1
        if isFirst {
            event(.jobOpened(job: job.short, nonce: String(record.genesis.nonce.hex.prefix(8))))
        } else {
            event(.leadershipTaken(term: term, round: state.round))
        }
        propose(.opening(Opening(reason: isFirst ? "the job begins" : "elected")))
        settle()
        refreshWake()
    }

    /// Who is in the log and has not left is a member; it has as long as everybody to be heard.
    private mutating func adoptMembers() {
        for member in state.members where member.present {
            let capability = Capability(
                name: member.name, device: member.device, memory: member.memory, flops: member.flops,
                numerics: Record.numerics)
            roster.adopt(member.peer, at: member.endpoint, capability, now: now)
            desk.planned.insert(member.peer)
        }
    }

    private mutating func beginStage() {
        if let finish = state.finished {
            timers.seats!.isOver = true
            return stage.go(to: .closing(.failed(finish.reason), until: now + .seconds(10)))
        }
        guard state.plan != nil else {
            if roster.hasWorkers { stage.go(to: .sharing(since: now)) }
            return
        }
        stage.go(to: .preparing)
        round.begin(state.round, isDisturbed: true, firstVersion: term << 8, at: now)
        // What an entry rests on already is known; members say it again with the rest.
        for (_, receipt) in books.receipts where receipt.work.round == state.round {
            _ = round.progress.receive(receipt)
        }
    }
}
