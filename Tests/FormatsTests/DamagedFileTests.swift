import Checkpoints
import Datasets
import Files
import JSON
import Primitives
import Testing
import Tokenizers

/// Seeded mutations of good files of each kind: they are read, or refused with the file's name; what is read can be used to its end.
@Suite struct `Damaged files` {
    private static let numbers: [[UInt8]] = [
        [0, 0, 0, 0], [255, 255, 255, 255], [255, 255, 255, 127], [0, 0, 0, 128], [1, 0, 0, 0, 0, 0, 0, 0],
        Array("-1".utf8),
        Array("1e999".utf8), Array("18446744073709551616".utf8),
    ]
    static func damage(_ bytes: inout [UInt8], _ generator: inout SeededGenerator) {
        for _ in 0...generator.below(3) where !bytes.isEmpty {
            // Headers are what decides.
            let at = generator.below(generator.below(2) == 0 ? min(bytes.count, 80) : bytes.count)
            switch generator.below(6) {
            case 0: bytes[at] = UInt8(generator.below(256))
            case 1: bytes[at] ^= 1 << UInt8(generator.below(8))
            case 2:
                let number = numbers[generator.below(numbers.count)]
                bytes.replaceSubrange(at..<min(bytes.count, at + number.count), with: number)
            case 3: bytes.removeSubrange(at..<min(bytes.count, at + 1 + generator.below(16)))
            case 4: bytes.insert(contentsOf: bytes[at..<min(bytes.count, at + generator.below(40))], at: at)
            default: bytes = Array(bytes.prefix(at))
            }
        }
    }
    /// How many of so many damaged copies are still read.
    static func read(_ good: [[UInt8]], copies: Int = 4000, seed: UInt64, _ body: ([UInt8]) throws -> Void) rethrows
        -> Int
    {
        var generator = SeededGenerator(seed: seed)
        var count = 0
        for _ in 0..<copies {
            var bytes = good[generator.below(good.count)]
            damage(&bytes, &generator)
            do {
                try body(bytes)
                count += 1
            } catch let error as DatasetError {
                #expect("\(error)".contains("here"), "\(error)")
            } catch let error as CheckpointError {
                #expect("\(error)".contains("here"), "\(error)")
            }
        }
        return count
    }

    @Test func `files of tokens`() throws {
        let good = [300, 70_000].map { DatasetTests.made(vocabulary: $0) }
        let count = try Self.read(good, seed: 1) { bytes in
            try bytes.withUnsafeBytes { raw in
                let file = try TokenFile(raw, path: "here")
                try file.checkTokens(0..<file.count)
                for index in 0..<file.count {
                    _ = (file[index], file.bearsLoss(index), file.document(of: index))
                }
                #expect(file.documentEnds(in: 0..<file.count).last == (file.count == 0 ? nil : file.count))
            }
        }
        #expect((1..<3000).contains(count), "\(count) of 4000 are read")
    }

    @Test func `shards`() throws {
        let good = [false, true].map { wide -> [UInt8] in
            TokenShard.header(count: 40, wide: wide) + (0..<40 * (wide ? 4 : 2)).map { UInt8(truncatingIfNeeded: $0) }
        }
        let count = try Self.read(good, seed: 2) { bytes in
            try bytes.withUnsafeBytes { raw in
                let shard = try TokenShard(raw, path: "here")
                for index in 0..<shard.count { _ = shard[index] }
            }
        }
        #expect((1..<3000).contains(count), "\(count) of 4000 are read")
    }

    @Test func `rows`() throws {
        let good = [
            #"{"text": "In the beginning", "source": {"n": 1}}"#, #"{"prompt": "a\u00e9?", "completion": "b"}"#,
            #"{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]}"#,
        ].map { Array($0.utf8) }
        let count = try Self.read(good, seed: 3) { bytes in
            _ = try bytes.withUnsafeBufferPointer { try DataRow(parsing: $0, path: "here", line: 7) }
        }
        #expect((1..<3000).contains(count), "\(count) of 4000 are read")
    }

    @Test func `headers of safetensors, indices and configurations`() throws {
        let header = Array(
            #"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}}"#
                .utf8)
        let size = 8 + header.count + 32
        var whole = withUnsafeBytes(of: UInt64(header.count).littleEndian) { [UInt8]($0) } + header
        whole += [UInt8](repeating: 0, count: 32)
        var count = try Self.read([whole], seed: 4) { bytes in
            let start = try SafetensorsHeader.start(bytes, fileSize: bytes.count, path: "here")
            let found = try bytes[8..<start].withUnsafeBufferPointer {
                try SafetensorsHeader(json: $0, start: start, fileSize: bytes.count, path: "here")
            }
            for entry in found.entries {
                #expect(entry.range.lowerBound >= start && entry.range.upperBound <= bytes.count)
            }
        }
        #expect((1..<3000).contains(count) && size == whole.count, "\(count) of 4000 are read")
        let index = ShardIndex.json(
            tensors: [("a", "model-1.safetensors"), ("b", "model-2.safetensors")], totalSize: 32, metadata: [])
        count = try Self.read([index.bytes()], seed: 5) { bytes in
            let found = try ShardIndex(parsing: bytes, path: "here")
            for name in found.files { #expect(!name.contains("/") && !name.hasPrefix(".")) }
        }
        #expect((1..<3500).contains(count), "\(count) of 4000 are read")
    }
}
