import Exchange
import Foundation
import Kernels
import Primitives
import Testing

/// Messages that every decoder must accept or refuse as recorded, on every instruction set. `ATOLL_CORPUS=write` in the
/// environment draws them anew.
@Suite(.serialized)
struct CorpusTests {
    static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Corpus")
    static let codecs =
        ["fp32", "bf16", "fp16", "int8", "int4", "lowrank:r=2"]
        + ["sparse:k=4", "sparse:k=64"].flatMap { scheme in ["", ",values=sign", ",values=2-bit"].map { scheme + $0 } }
    static let shapes = [[], [1], [17], [300], [4097], [12, 20]]

    struct Case {
        var codec: Codec
        var shape: [Int]
        var outcome: String
        var bytes: [UInt8]
        var count: Int { shape.reduce(1, *) }

        init(_ codec: Codec, _ shape: [Int], _ bytes: [UInt8]) {
            (self.codec, self.shape, self.bytes) = (codec, shape, bytes)
            outcome = ""
            outcome = found()
        }
        init?(line: Substring) {
            let fields = line.split(separator: " ")
            guard fields.count >= 3, let codec = Codec(String(fields[0])) else { return nil }
            self.codec = codec
            shape = fields[1] == "scalar" ? [] : fields[1].split(separator: "x").compactMap { Int($0) }
            outcome = String(fields[2])
            bytes = fields.count > 3 ? [UInt8](hex: String(fields[3])) ?? [] : []
        }
        var line: String {
            let shape = self.shape.isEmpty ? "scalar" : self.shape.map(String.init).joined(separator: "x")
            return "\(codec) \(shape) \(outcome) \(bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined())"
        }

        /// What the decoder says; that a refusal writes nothing, and what is accepted is finite.
        func found() -> String {
            let pattern = (0..<count).map { Float($0) + 0.5 }
            var values = pattern, sums = pattern, weights = pattern
            let result = values.withUnsafeMutableBufferPointer { target in
                sums.withUnsafeMutableBufferPointer { sums in
                    weights.withUnsafeMutableBufferPointer { weights in
                        Result { () throws(CodecError) in
                            try codec.decode(bytes[...], shape: shape, into: target)
                            try codec.decodeAccumulate(
                                bytes[...], shape: shape, weight: 1, into: sums, weights: weights)
                        }
                    }
                }
            }
            switch result {
            case .success:
                #expect(values.allSatisfy { $0.isFinite })
                return "accepted"
            case .failure(let error):
                #expect(values == pattern && sums == pattern && weights == pattern)
                switch error {
                case .truncated: return "truncated"
                case .trailingBytes: return "trailing"
                case .indexOutOfRange: return "index"
                case .notFinite: return "not-finite"
                case .malformed: return "malformed"
                }
            }
        }
    }

    static func mutate(_ bytes: [UInt8], with generator: inout SeededGenerator) -> [UInt8] {
        var bytes = bytes
        for _ in 0...generator.below(3) where !bytes.isEmpty {
            let at = generator.below(bytes.count)
            switch generator.below(7) {
            case 0, 1: bytes[at] ^= 1 << UInt8(generator.below(8))
            case 2: bytes[at] = UInt8(generator.below(256))
            case 3: bytes.removeLast(1 + generator.below(min(bytes.count, 9)))
            case 4: bytes += generator.bytes(1 + generator.below(9))
            case 5: for index in at..<min(bytes.count, at + 12) { bytes[index] = 0 }
            default: for index in at..<min(bytes.count, at + 12) { bytes[index] = 255 }
            }
        }
        return bytes
    }

    static func encode(_ codec: Codec, _ shape: [Int], seed: UInt64) -> [UInt8] {
        gaussian(shape.reduce(1, *), seed: seed).withUnsafeBufferPointer { codec.encode($0, shape: shape) }
    }

    /// A valid message of each codec and shape, and mutated ones: several of each kind of refusal.
    static func draw(_ name: String) -> [Case] {
        let codec = Codec(name)!
        var generator = SeededGenerator(seed: 2024), cases: [Case] = []
        for (index, shape) in shapes.enumerated() {
            let whole = encode(codec, shape, seed: UInt64(index))
            // Long messages are the same anew: some of the shapes are enough.
            guard whole.count <= 1300 else { continue }
            cases.append(Case(codec, shape, whole))
            var kept: [String: Int] = [:]
            for _ in 0..<200 {
                let drawn = Case(codec, shape, mutate(whole, with: &generator))
                let times = kept[drawn.outcome, default: 0]
                guard times < (whole.count > 200 ? 1 : 3) else { continue }
                kept[drawn.outcome] = times + 1
                cases.append(drawn)
            }
        }
        return cases
    }

    static func file(_ codec: String) -> URL {
        let name = codec.map { $0.isLetter || $0.isNumber ? $0 : "-" }
        return folder.appending(path: String(name) + ".txt")
    }

    @Test(.enabled(if: ProcessInfo.processInfo.environment["ATOLL_CORPUS"] == "write"), arguments: codecs)
    func `the corpus is drawn anew`(codec: String) throws {
        try FileManager.default.createDirectory(at: Self.folder, withIntermediateDirectories: true)
        let head = "# codec, shape, what the decoder says, message; drawn by CorpusTests\n"
        let text = head + Self.draw(codec).map { $0.line + "\n" }.joined()
        try text.write(to: Self.file(codec), atomically: true, encoding: .utf8)
    }

    @Test(arguments: codecs)
    func `every message of the corpus meets what it met before, on every instruction set`(codec: String) throws {
        defer { _ = kernels_codec_set_instruction_set(-1) }
        let lines = try String(contentsOf: Self.file(codec), encoding: .utf8).split(separator: "\n").dropFirst()
        #expect(lines.count > 10)
        for set in 0...3 where kernels_codec_set_instruction_set(Int32(set)) {
            for line in lines {
                let recorded = try #require(Case(line: line))
                #expect(recorded.found() == recorded.outcome, "\(line.prefix(60)), set \(set)")
            }
        }
    }

    /// Mutations of mutations: an input that is accepted becomes the next one's origin.
    @Test(arguments: codecs)
    func `a bounded search from a fixed seed finds nothing that half applies`(name: String) {
        let codec = Codec(name)!
        var generator = SeededGenerator(seed: 99), accepted = 0
        for shape in [[1], [255], [300], [12, 20], [5000]] {
            var origin = Self.encode(codec, shape, seed: 7)
            for step in 0..<250 {
                let bytes = Self.mutate(origin, with: &generator)
                if Case(codec, shape, bytes).outcome == "accepted" {
                    accepted += 1
                    if step % 2 == 0 { origin = bytes }
                }
                if step % 50 == 49 { origin = Self.encode(codec, shape, seed: UInt64(step)) }
            }
        }
        #expect(accepted > 0)
    }
}
