import Messages
import Primitives
import Record
import Telemetry

/// Work messages of other stages: now, later (kept), or never (dropped).
extension Holding {
    /// The round whose start the engine holds, or will hold next.
    package func heldRound(_ job: JobState) -> Int {
        switch state {
        case .atRound(let held): held.round
        case .applying(let held): held.round + 1
        case .fetching(let move): move.round
        case .empty: job.round
        }
    }

    package mutating func receive(work message: Message, from peer: PeerID, _ job: JobState, at now: Instant) {
        let verdict =
            withWork { work in
                switch message {
                case .activation(let activation, let payload): work.receive(activation, payload: payload, from: peer)
                case .norms(let norms): work.receive(norms, from: peer)
                case .exchangePart(let part): work.receive(part, from: peer, at: now)
                default: RoundWork.Verdict.stale
                }
            } ?? .later
        switch verdict {
        case .taken, .stale: break
        case .later: if isWorthKeeping(message, job) { early.keep(message, from: peer) }
        case .notEntitled: effects.push(.notEntitled(peer, message))
        case .corrupt: effects.push(.event(.payloadCorrupt, peer))
        }
    }

    /// Of this round or the next, or of a plan that this peer has not heard of yet, such as one that takes the job back to an earlier
    /// round.
    private func isWorthKeeping(_ message: Message, _ job: JobState) -> Bool {
        guard let work = message.work else { return false }
        let pipelines = job.plan?.pipelines ?? []
        if pipelines.indices.contains(work.rank), work.attempt < pipelines[work.rank].attempt { return false }
        if work.round >= heldRound(job), work.round <= job.round + 2 { return true }
        return work.attempt > pipelines.map(\.attempt).max() ?? 0
    }

    /// Work that arrived before this stage was ready for it.
    package mutating func readEarlyMail(_ job: JobState, at now: Instant) {
        guard !early.isEmpty else { return }
        for item in early.takeAll() { receive(work: item.message, from: item.from, job, at: now) }
    }
}
