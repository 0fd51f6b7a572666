internal import Exchange
internal import Kernels
internal import Primitives

/// Times the codecs against memcpy, in one run on one thread, because only the ratio means something on another
/// machine.
///
/// The clock is the caller's. Each row is the least time of several repetitions, memcpy being repeated before each of
/// them.
public enum ExchangeBenchmark {
    public struct Row: Hashable, Sendable {
        /// "int8 encode".
        public var name: String
        /// Bytes of the dense fp32 tensor that went in or came out, by seconds.
        public var bytesPerSecond: Double
        /// The time of a memcpy of the tensor divided by this row's: more is better.
        public var ratioToMemcpy: Double
        /// Bits a value of the message, where there is one.
        public var bitsPerValue: Double?
        /// ratioToMemcpy that this row should reach on one core with AVX-512, tensor larger than the cache; nil for no
        /// goal.
        public var goal: Double?
        /// bitsPerValue ÷ Shannon's limit, where that is defined.
        public var limitRatio: Double?
        /// What others reach, as a ratio to memcpy.
        public var anchor: String?
    }

    /// Measured beside these kernels when they were planned (PyTorch 2.15 on one thread; bitsandbytes; a prototype in C).
    private static let anchors: [String: String] = [
        "fp16 encode": "PyTorch 1.45", "int8 encode": "bitsandbytes 0.08, PyTorch 0.13",
        "int8 decode": "bitsandbytes 0.26",
        "int8 mean of 8": "PyTorch 0.17 for one", "sparse:k=64 encode, feedback": "prototype 0.30, PyTorch top-k 0.07",
    ]

    public enum InstructionSet: Int, CaseIterable, Sendable {
        case naive, baseline, avx2, avx512
        public static var best: InstructionSet {
            InstructionSet(rawValue: Int(kernels_codec_instruction_set())) ?? .naive
        }
        /// False, and nothing changed, if this machine lacks it.
        public func use() -> Bool { kernels_codec_set_instruction_set(Int32(rawValue)) }
    }

    /// - Parameters:
    ///   - count: values in the tensor; 64 Mi values (256 MB) is larger than most caches.
    ///   - contributors: messages in the mean.
    ///   - seconds: a monotonic clock, better of the thread's processor time than of the wall.
    public static func run(
        count: Int = 1 << 26, k: Int = 64, contributors: Int = 8, repetitions: Int = 5, seconds: @escaping () -> Double
    ) -> [Row] {
        var bench = Bench(count: count, repetitions: repetitions, seconds: seconds)
        defer { bench.deallocate() }
        var rows = [bench.memcpyRow()]
        let goals: [Codec: Double] = [.int8: 0.9, .int4: 0.5, .sparse(k: k): 0.5]
        for codec in [Codec.bf16, .fp16, .int8, .int4, .sparse(k: k), .sparse(k: k, values: .sign)] {
            rows.append(bench.encodeRow(codec, hasFeedback: false, goal: codec == .int8 ? goals[codec] : nil))
            rows.append(bench.encodeRow(codec, hasFeedback: true, goal: codec.isSparse ? goals[codec] : nil))
            rows.append(bench.decodeRow(codec))
            rows.append(bench.meanRow(codec, contributors: contributors, goal: codec == .int8 ? 0.5 : goals[codec]))
        }
        for index in rows.indices { rows[index].anchor = anchors[rows[index].name] }
        return rows
    }
}

/// The buffers of a run: `values` [count] about normal, `result` and `feedback` [count], `room` for a message.
private struct Bench {
    let count: Int
    let repetitions: Int
    let seconds: () -> Double
    var values: UnsafeMutableBufferPointer<Float>
    let result: UnsafeMutableBufferPointer<Float>
    let feedback: UnsafeMutableBufferPointer<Float>
    let room: UnsafeMutableRawBufferPointer
    private var memcpySeconds = Double.infinity

    init(count: Int, repetitions: Int, seconds: @escaping () -> Double) {
        self.count = count
        self.repetitions = repetitions
        self.seconds = seconds
        values = .allocate(capacity: count)
        result = .allocate(capacity: count)
        feedback = .allocate(capacity: count)
        room = .allocate(byteCount: 4 * count + 64, alignment: 64)
        result.initialize(repeating: 0)
        feedback.initialize(repeating: 0)
        room.initializeMemory(as: UInt8.self, repeating: 0)
        var generator = SeededGenerator(seed: 1)
        values.initialize(repeating: 0)
        for index in 0..<count {
            let word = generator.next()
            let sum = (word & 0xFFFF) + (word >> 16 & 0xFFFF) + (word >> 32 & 0xFFFF) + word >> 48
            values[index] = (Float(sum) - 131_070) / 37_837
        }
    }

    func deallocate() {
        values.deallocate()
        result.deallocate()
        feedback.deallocate()
        room.deallocate()
    }

    /// Least seconds of `body` and, measured in turn with it, of memcpy.
    private mutating func time(_ body: () -> Void) -> Double {
        var least = Double.infinity
        for _ in 0..<repetitions {
            let start = seconds()
            UnsafeMutableRawBufferPointer(result).copyMemory(from: UnsafeRawBufferPointer(values))
            let copied = seconds()
            body()
            least = min(least, seconds() - copied)
            memcpySeconds = min(memcpySeconds, copied - start)
        }
        return least
    }

    private func row(
        _ name: String, _ time: Double, bits: Double? = nil, limit: Double? = nil, goal: Double? = nil
    ) -> ExchangeBenchmark.Row {
        ExchangeBenchmark.Row(
            name: name, bytesPerSecond: Double(4 * count) / time, ratioToMemcpy: memcpySeconds / time,
            bitsPerValue: bits, goal: goal, limitRatio: limit.flatMap { limit in bits.map { $0 / limit } })
    }

    mutating func memcpyRow() -> ExchangeBenchmark.Row {
        _ = time {}
        return row("memcpy", memcpySeconds)
    }

    mutating func encodeRow(_ codec: Codec, hasFeedback: Bool, goal: Double?) -> ExchangeBenchmark.Row {
        feedback.update(repeating: 0)
        var bytes = 0
        let (values, feedback, room) = (UnsafeBufferPointer(values), feedback, room)
        let least = time { bytes = codec.encode(values, feedback: hasFeedback ? feedback : nil, into: room) }
        let name = "\(codec) encode\(hasFeedback ? ", feedback" : "")"
        let message = [UInt8](UnsafeRawBufferPointer(rebasing: room[..<bytes]))
        let limit = codec.entropyLimit(count: count, message: message[...]).map { $0 / Double(count) }
        return row(name, least, bits: Double(8 * bytes) / Double(count), limit: limit, goal: goal)
    }

    mutating func decodeRow(_ codec: Codec) -> ExchangeBenchmark.Row {
        let message = codec.encode(UnsafeBufferPointer(values))[...], result = result
        let least = time {
            do throws(CodecError) { try codec.decode(message, into: result) } catch { preconditionFailure("\(error)") }
        }
        return row("\(codec) decode", least)
    }

    /// Different messages, so that none is in the cache because another one was just read.
    mutating func meanRow(_ codec: Codec, contributors: Int, goal: Double?) -> ExchangeBenchmark.Row {
        let messages = (0..<contributors).map { rank in
            values.reverse()
            for index in stride(from: rank, to: count, by: 7) { values[index] = -values[index] * 1.01 }
            return WeightedMessage(bytes: codec.encode(UnsafeBufferPointer(values))[...], weight: Float(rank + 1))
        }
        let result = result, workspace = MeanWorkspace()
        let least = time {
            do throws(RefusedContribution) {
                try codec.contributorMean(of: messages, into: result, workspace: workspace)
            } catch {
                preconditionFailure("\(error)")
            }
        }
        return row("\(codec) mean of \(contributors)", least, goal: goal)
    }
}
