import CPU
internal import Compute
import EventLoop
import Primitives
import Training
import Wire

/// An engine on a thread of its own, and its results on the loop: at once, or not before the emulated device could have them.
///
/// Pacing keeps the device's own time line, as the simulator does: a job begins when it is there and the one before has ended,
/// and takes its modelled FLOPs over the device's speed. Where the machine is slower than the device, the line slips.
final class ComputeWorker {
    private let loop: Loop
    private let queue: WorkPool.Queue
    /// What its owner lets it do; passed before each job.
    let gate = WorkGate()
    private var isYielding = false
    private let box: EngineBox
    private let threads: Int
    /// FLOP/s of the emulated device; nil for as fast as it goes.
    private let paced: Double?
    private var configuration: StageConfiguration?
    private var busyUntil = Instant.zero
    private var waiting: [(at: Instant, result: ComputeResult)] = []
    private var timer: Timer?
    private let deliver: (ComputeResult) -> Void
    /// Told what was computed, and from when to when.
    var onComputed: ((ComputeJob, Instant, Instant) -> Void)?
    /// How often the machine was too slow for the pace, and by how much in all.
    private(set) var late = (count: 0, seconds: 0.0)

    /// The engine is used by one thread of the pool at a time.
    private final class EngineBox: @unchecked Sendable {
        let device: any DeviceEngine
        var engine: StageEngine
        let room: (any ByteRoom)?
        init(_ device: any DeviceEngine, threads: Int, _ room: (any ByteRoom)?) {
            self.device = device
            self.room = room
            engine = StageEngine(corpus: CorpusBytes([]), on: device, threads: threads, room: room)
        }
    }

    /// - Parameters:
    ///   - device: nil for the processor.
    ///   - room: where states are put down that come out; nil for memory.
    init(
        _ loop: Loop, pool: WorkPool, threads: Int, paced: Double?, device: (any DeviceEngine)? = nil,
        room: (any ByteRoom)? = nil,
        deliver: @escaping (ComputeResult) -> Void
    ) {
        self.loop = loop
        self.threads = threads
        self.paced = paced
        self.deliver = deliver
        queue = pool.makeQueue()
        box = EngineBox(device ?? CPUEngine(threads: threads), threads: threads, room)
        timer = Timer(loop) { [unowned self] in release() }
    }

    /// One that cannot be read any more leaves the engine without: what needs it is refused.
    func use(corpus: StoredBytes) {
        let box = box
        let threads = threads
        queue.submit(
            {
                let bytes = CorpusBytes(corpus) ?? CorpusBytes([])
                box.engine = StageEngine(corpus: bytes, on: box.device, threads: threads, room: box.room)
            },
            then: { _ in })
    }

    /// Whether what grows with the tokens is left out, and only what is held is copied: its owner wants the processor.
    func yields(_ isYielding: Bool) {
        guard isYielding != self.isYielding else { return }
        self.isYielding = isYielding
        gate.yields(isYielding)
    }

    func submit(_ job: ComputeJob) {
        configuration = job.configuration(before: configuration)
        var due = Instant.zero
        if let paced {
            let seconds = modelledFLOPs(of: job, configuration: configuration) / paced
            busyUntil = max(loop.now, busyUntil) + .nanoseconds(Int64((seconds * 1e9).rounded()))
            due = busyUntil
        }
        let (box, gate) = (box, gate)
        let isReckoned = paced != nil && job.timed != nil
        let (loop, began) = (loop, due)
        queue.submit(
            {
                if isReckoned { return (result: ComputeResult.done, from: began, to: began) }
                return gate.pass(isLong: job.isOfTokens) {
                    let from = loop.now
                    return (result: box.engine.perform(job), from: from, to: loop.now)
                } ?? (result: .refused("its owner wants the processor"), from: loop.now, to: loop.now)
            },
            then: { [unowned self] done in
                onComputed?(job, done.from, done.to)
                computed(done.result, due: due)
            })
    }

    private func computed(_ result: ComputeResult, due: Instant) {
        guard paced != nil else { return deliver(result) }
        let now = loop.now
        if due < now {
            late.count += 1
            late.seconds += (now - due).inSeconds
            busyUntil = max(busyUntil, now)
        }
        waiting.append((due, result))
        release()
    }

    private func release() {
        while let first = waiting.first, first.at <= loop.now {
            waiting.removeFirst()
            deliver(first.result)
        }
        timer?.arm(at: waiting.first?.at)
    }

    func close() {
        gate.open()
        timer?.close()
        timer = nil
    }
}
