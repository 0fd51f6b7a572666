import Checkpoints
import Exchange
import Files
public import Primitives

/// Encoding, decoding and comparing whole files of tensors.
public enum CodecRun {
    /// What a scheme made of a file.
    public struct Figures: Sendable {
        public var scheme: Codec
        public var tensors = 0
        public var values = 0
        /// Of the messages, and of the file with its header where there is one.
        public var payloadBytes = 0
        public var fileBytes: Int?
        /// Shannon's limit for what the messages say, where that is defined: see ``Codec/entropyLimit(count:message:)``.
        public var limitBits: Double? = 0
        /// ‖decoded − wanted‖² and ‖wanted‖², where wanted is what was to be sent: values and (decayed) error feedback.
        public var errorSquares = 0.0
        public var wantedSquares = 0.0
        public var encodeSeconds = 0.0
        public var decodeSeconds = 0.0

        public var bitsPerValue: Double { values > 0 ? 8 * Double(payloadBytes) / Double(values) : 0 }
        /// ‖decoded − wanted‖ ÷ ‖wanted‖.
        public var relativeError: Double { wantedSquares > 0 ? (errorSquares / wantedSquares).squareRoot() : 0 }
        public var limitRatio: Double? {
            limitBits.flatMap { $0 > 0 ? 8 * Double(payloadBytes) / $0 : nil }
        }
        /// Bytes of fp32 a second.
        public var encodeBytesPerSecond: Double { encodeSeconds > 0 ? 4 * Double(values) / encodeSeconds : 0 }
        public var decodeBytesPerSecond: Double { decodeSeconds > 0 ? 4 * Double(values) / decodeSeconds : 0 }
    }

    /// Encodes a safetensors file. With `state`, error feedback is read from there (all zeros where there is no such
    /// file) and, after the encoded file is complete, written back.
    public static func encode(
        _ input: String, to output: String, scheme: Codec, state: String?, seconds: () -> Double,
        interrupted: () -> Bool
    ) throws(TensorFileError) -> Figures {
        let file = try TensorFile(input)
        var feedback = try state.map { path throws(TensorFileError) in
            try FeedbackFile(path, scheme: scheme, tensors: file.entries)
        }
        var figures = Figures(scheme: scheme)
        var entries: [CodecFile.Entry] = []
        for (index, entry) in file.entries.enumerated() {
            guard !interrupted() else { throw .interrupted }
            let values = try file.values(entry)
            let message = figures.encode(
                values, shape: entry.shape, feedback: &feedback, at: index, seconds: seconds)
            guard (try? scheme.validate(message[...], count: entry.count, shape: entry.shape)) != nil else {
                throw .malformed(
                    path: state ?? input, problem: "tensor \(entry.name) and its error feedback add up to infinity")
            }
            entries.append(
                CodecFile.Entry(name: entry.name, shape: entry.shape, count: entry.count, message: message[...]))
        }
        guard !interrupted() else { throw .interrupted }
        // Both complete on disk, then the message takes its place first: after a crash between the two, the same call
        // gives the same message again.
        let (encoded, bytes) = try CodecFile(scheme: scheme, entries: entries, metadata: file.metadata)
            .prepare(for: output)
        let kept: PreparedFile?
        do throws(TensorFileError) { kept = try feedback?.prepare() } catch {
            encoded.discard()
            throw error
        }
        do throws(TensorFileError) { try encoded.replace() } catch {
            kept?.discard()
            throw error
        }
        try kept?.replace()
        figures.fileBytes = bytes
        return figures
    }

    /// Decodes a file that ``encode(_:to:scheme:state:seconds:interrupted:)`` wrote, to safetensors in F32.
    public static func decode(
        _ input: String, to output: String, seconds: () -> Double, interrupted: () -> Bool
    ) throws(TensorFileError) -> Figures {
        let file = try CodecFile(input)
        var figures = Figures(scheme: file.scheme)
        figures.limitBits = nil
        var tensors: [TensorFile.Tensor] = []
        for entry in file.entries {
            guard !interrupted() else { throw .interrupted }
            do throws(CodecError) {
                // Before memory for the values is taken.
                try file.scheme.validate(entry.message, count: entry.count, shape: entry.shape)
            } catch {
                throw .refused(path: input, name: entry.name, reason: error)
            }
            let start = seconds()
            let values = decoded(entry.message, scheme: file.scheme, count: entry.count, shape: entry.shape)
            figures.decodeSeconds += seconds() - start
            figures.tensors += 1
            figures.values += entry.count
            figures.payloadBytes += entry.message.count
            tensors.append(TensorFile.Tensor(name: entry.name, shape: entry.shape, values: values))
        }
        try TensorFile.write(tensors, metadata: file.metadata, to: output)
        return figures
    }

    /// What each scheme makes of a file, without error feedback.
    public static func compare(
        _ input: String, schemes: [Codec], seconds: () -> Double, interrupted: () -> Bool
    ) throws(TensorFileError) -> [Figures] {
        let file = try TensorFile(input)
        var all = schemes.map { Figures(scheme: $0) }
        for entry in file.entries {
            let values = try file.values(entry)
            for index in all.indices {
                guard !interrupted() else { throw .interrupted }
                var none: FeedbackFile?
                _ = all[index].encode(values, shape: entry.shape, feedback: &none, at: 0, seconds: seconds)
            }
        }
        return all
    }

    fileprivate static func decoded(
        _ message: ArraySlice<UInt8>, scheme: Codec, count: Int, shape: [Int]
    ) -> [Float] {
        [Float](unsafeUninitializedCapacity: count) { target, filled in
            filled = count
            let whole = UnsafeMutableBufferPointer(rebasing: target[..<count])
            whole.initialize(repeating: 0)
            do throws(CodecError) { try scheme.decode(message, shape: shape, into: whole) } catch {
                whole.update(repeating: .nan)
            }
        }
    }
}

extension CodecRun.Figures {
    /// Encodes one tensor and counts what it cost.
    fileprivate mutating func encode(
        _ numbers: [Float], shape: [Int], feedback: inout FeedbackFile?, at index: Int, seconds: () -> Double
    ) -> [UInt8] {
        var wanted = numbers
        if let feedback {
            let decay = scheme.isSparse ? Codec.feedbackDecay : 1
            for (i, kept) in feedback.values[index].enumerated() { wanted[i] = kept * decay + numbers[i] }
        }
        let codec = scheme
        let start = seconds()
        let message = numbers.withUnsafeBufferPointer { values in
            guard feedback != nil else { return codec.encode(values, shape: shape) }
            let warmStart = feedback!.warmStarts[index]
            return feedback!.values[index].withUnsafeMutableBufferPointer {
                codec.encode(values, shape: shape, feedback: $0, warmStart: warmStart)
            }
        }
        let middle = seconds()
        let back = CodecRun.decoded(message[...], scheme: codec, count: numbers.count, shape: shape)
        decodeSeconds += seconds() - middle
        encodeSeconds += middle - start
        tensors += 1
        values += numbers.count
        payloadBytes += message.count
        for (a, b) in zip(back, wanted) {
            errorSquares += Double(a - b) * Double(a - b)
            wantedSquares += Double(b) * Double(b)
        }
        if let limit = codec.entropyLimit(count: numbers.count, message: message[...]) {
            limitBits = limitBits.map { $0 + limit }
        } else {
            limitBits = nil
        }
        return message
    }
}

/// Error feedback between calls: a safetensors file of F32 tensors `feedback/NAME`, for `lowrank` also `right/NAME`.
private struct FeedbackFile {
    private let path: String
    private let scheme: Codec
    private let entries: [TensorFile.Entry]
    var values: [[Float]] = []
    var warmStarts: [WarmStart] = []

    init(_ path: String, scheme: Codec, tensors: [TensorFile.Entry]) throws(TensorFileError) {
        self.path = path
        self.scheme = scheme
        entries = tensors
        guard fileExists(path) else {
            values = tensors.map { [Float](repeating: 0, count: $0.count) }
            warmStarts = tensors.map { _ in WarmStart() }
            return
        }
        let file = try TensorFile(path)
        let found = file.metadata["atoll_feedback"] ?? "none"
        guard found == scheme.description else {
            throw .otherState(path: path, problem: "it holds error feedback of \(found), not of \(scheme)")
        }
        for tensor in tensors {
            guard let kept = file.entries.first(where: { $0.name == "feedback/" + tensor.name }),
                kept.shape == tensor.shape
            else {
                throw .otherState(
                    path: path, problem: "it has no error feedback of shape \(tensor.shape) for tensor \(tensor.name)")
            }
            values.append(try file.values(kept))
            let right = file.entries.first { $0.name == "right/" + tensor.name }
            warmStarts.append(
                WarmStart(right: try right.map { entry throws(TensorFileError) in try file.values(entry) } ?? []))
        }
    }

    func prepare() throws(TensorFileError) -> PreparedFile {
        var tensors = zip(entries, values).map {
            TensorFile.Tensor(name: "feedback/" + $0.name, shape: $0.shape, values: $1)
        }
        for (entry, warmStart) in zip(entries, warmStarts) where !warmStart.right.isEmpty {
            guard case .lowrank(let rank) = scheme else { continue }
            tensors.append(
                TensorFile.Tensor(
                    name: "right/" + entry.name, shape: [rank, warmStart.right.count / rank], values: warmStart.right))
        }
        return try TensorFile.prepare(tensors, metadata: ["atoll_feedback": scheme.description], for: path)
    }
}
