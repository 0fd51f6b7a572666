import Primitives
import Record
import Telemetry
import Training

/// What is to be on disk: requests go out, answers come back; what failed is tried again, one request first, the others when that has
/// succeeded. A disk that fails is an event, once until it works again.
package struct StorageDesk: Sendable {
    package enum Effect: Sendable {
        case store(StorageRequest)
        case event(Happening)
    }
    /// In the order in which they were asked for.
    private var failed: [StorageRequest] = []
    private var open: [StorageTicket: (request: StorageRequest, at: Instant)] = [:]
    /// Of this machine's clock, for how long writes take.
    package var now = Instant.zero
    /// What entries of logs took lately, the newest last.
    private var took: [Duration] = []
    private var retryAt: Instant?
    private var effects = EffectQueue<Effect>()
    package static let pause = Duration.seconds(5)

    package init() {}

    package mutating func poll() -> Effect? { effects.pop() }
    package var nextWake: Instant? { retryAt }
    package var isFailing: Bool { !failed.isEmpty }
    /// The longest of the last writes of log entries; nil before there were any.
    package var slowest: Duration? { took.max() }
    private static let remembered = 32

    package mutating func store(_ request: StorageRequest) {
        open[request.ticket] = (request, now)
        effects.push(.store(request))
    }

    /// - Returns: whether it is durable now.
    package mutating func answered(_ ticket: StorageTicket, _ outcome: StorageOutcome, at now: Instant) -> Bool {
        guard let (request, since) = open.removeValue(forKey: ticket) else { return false }
        if case .entry = ticket, case .stored = outcome, now > since {
            took = (took + [now - since]).suffix(Self.remembered)
        }
        // A newer one comes in some rounds: what could not be kept of a round is not tried again. Its keeper tells.
        if request.isOfARoundStart { return true }
        return answered(request, outcome, at: now)
    }
    private mutating func answered(_ request: StorageRequest, _ outcome: StorageOutcome, at now: Instant) -> Bool {
        let ticket = request.ticket
        switch outcome {
        case .failed(let why):
            if failed.isEmpty { effects.push(.event(.storageFailed(what: ticket.what, why: why))) }
            if !failed.contains(where: { $0.ticket == ticket }) { failed.append(request) }
            retryAt = now + Self.pause
            return false
        case .conflict(let why):
            guard case .entry(let job, let index, _) = request else {
                return answered(request, .failed(why), at: now)
            }
            // What is on the disk is of a log that is no more. It is kept, and the one that there is begins in another file.
            effects.push(.event(.storageFailed(what: ticket.what, why: "\(why): the file is put aside")))
            func isOfThatLog(_ request: StorageRequest) -> Bool {
                if case .entry(job, _, _) = request { true } else { false }
            }
            failed.removeAll(where: isOfThatLog)
            open = open.filter { !isOfThatLog($0.value.request) }
            if failed.isEmpty { retryAt = nil }
            store(.setLogAside(job: job, from: index))
            return false
        case .read: return true
        case .stored:
            guard let place = failed.firstIndex(where: { $0.ticket == ticket }) else { return true }
            failed.remove(at: place)
            let rest = failed
            failed = []
            retryAt = nil
            effects.push(.event(.storageRecovered(what: ticket.what)))
            for request in rest { store(request) }
            return true
        }
    }

    package mutating func wake(at now: Instant) {
        guard let due = retryAt, due <= now else { return }
        retryAt = nil
        // Those behind it wait for its answer.
        if let first = failed.first { store(first) }
    }

    /// Of a job that is over: nothing is tried again.
    package mutating func forget(job: Digest256, content: Digest256) {
        func isOf(_ request: StorageRequest) -> Bool {
            switch request {
            case .entry(job, _, _), .checkpoint(job, _, _), .erase(job, _), .chunk(content, _, _): true
            case .roundStart(let start, _): start.job == job
            case .readRoundStart(job, _), .eraseRoundStarts(job, _), .setLogAside(job, _): true
            default: false
            }
        }
        failed.removeAll(where: isOf)
        open = open.filter { !isOf($0.value.request) }
        if failed.isEmpty { retryAt = nil }
    }
}

extension StorageRequest {
    fileprivate var isOfARoundStart: Bool {
        switch self {
        case .roundStart, .readRoundStart, .eraseRoundStarts: true
        default: false
        }
    }
}
