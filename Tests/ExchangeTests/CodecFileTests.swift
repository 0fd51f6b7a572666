import Checkpoints
import Exchange
import Foundation
import Primitives
import Testing
import Weights

/// What `atoll codec` does with files: round trips, error feedback between calls, and files that lie.
final class CodecFileTests {
    let folder: URL

    init() throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "atoll-codec-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(at: folder) }

    func path(_ name: String) -> String { folder.appending(path: name).path }

    static let tensors = [
        TensorFile.Tensor(name: "layer.0.weight", shape: [33, 125], values: gaussian(4125, seed: 1)),
        TensorFile.Tensor(name: "norm", shape: [128], values: gaussian(128, seed: 2)),
        TensorFile.Tensor(name: "nothing", shape: [0, 3], values: []),
        TensorFile.Tensor(name: "scalar", shape: [], values: [1.5]),
    ]
    func encode(_ scheme: Codec, state: String? = nil) throws(TensorFileError) -> CodecRun.Figures {
        try CodecRun.encode(
            path("in"), to: path("out"), scheme: scheme, state: state.map(path), seconds: { 0 }, interrupted: { false })
    }
    func decode() throws(TensorFileError) -> CodecRun.Figures {
        try CodecRun.decode(path("out"), to: path("back"), seconds: { 0 }, interrupted: { false })
    }

    @Test(arguments: allCodecs + [.lowrank(rank: 3)])
    func `names, shapes and the codec's own values come back`(codec: Codec) throws {
        try TensorFile.write(Self.tensors, metadata: ["step": "7"], to: path("in"))
        let figures = try encode(codec)
        #expect(figures.tensors == 4 && figures.values == 4254)
        _ = try decode()
        let back = try TensorFile(path("back"))
        #expect(back.metadata == ["step": "7"])
        for tensor in Self.tensors {
            let entry = try #require(back.entries.first { $0.name == tensor.name })
            let bytes = tensor.values.withUnsafeBufferPointer { codec.encode($0, shape: tensor.shape) }
            var expected = [Float](repeating: 0, count: tensor.values.count)
            try expected.withUnsafeMutableBufferPointer { try codec.decode(bytes[...], shape: tensor.shape, into: $0) }
            #expect(entry.shape == tensor.shape)
            let values = try back.values(entry)
            #expect(bits(values) == bits(expected))
        }
        if codec == .fp32 { #expect(figures.relativeError == 0 && figures.bitsPerValue == 32) }
    }

    @Test(arguments: [Codec.sparse(k: 64), .int4, .lowrank(rank: 2)])
    func `state carries what was not sent`(codec: Codec) throws {
        try TensorFile.write(Self.tensors, to: path("in"))
        var feedback = [Float](repeating: 0, count: 4125)
        let warmStart = WarmStart()
        for _ in 0..<3 {
            _ = try encode(codec, state: "state")
            let bytes = Self.tensors[0].values.withUnsafeBufferPointer { values in
                feedback.withUnsafeMutableBufferPointer {
                    codec.encode(values, shape: [33, 125], feedback: $0, warmStart: warmStart)
                }
            }
            let file = try CodecFile(path("out"))
            #expect(file.entries.first { $0.name == "layer.0.weight" }.map { Array($0.message) } == bytes)
            let state = try TensorFile(path("state"))
            let kept = try #require(state.entries.first { $0.name == "feedback/layer.0.weight" })
            let values = try state.values(kept)
            #expect(bits(values) == bits(feedback))
        }
    }

    @Test func `feedback of another scheme or of other tensors is refused`() throws {
        try TensorFile.write(Self.tensors, to: path("in"))
        _ = try encode(.sparse(k: 64), state: "state")
        let before = try Data(contentsOf: folder.appending(path: "state"))
        #expect(throws: TensorFileError.self) { try encode(.int8, state: "state") }
        try TensorFile.write(
            Array(Self.tensors.dropFirst())
                + [Self.tensors[1]].map {
                    TensorFile.Tensor(name: "new", shape: $0.shape, values: $0.values)
                }, to: path("in"))
        #expect(throws: TensorFileError.self) { try encode(.sparse(k: 64), state: "state") }
        #expect(try Data(contentsOf: folder.appending(path: "state")) == before)
    }

    @Test func `half precision is read as what it means`() throws {
        let header =
            #"{"h":{"dtype":"F16","shape":[5],"data_offsets":[0,10]},"#
            + #""b":{"dtype":"BF16","shape":[2],"data_offsets":[10,14]}}"#
        let halves: [UInt16] = [0x3C00, 0xC000, 0x0001, 0x7BFF, 0x8000, 0x3FC0, 0xC2C8]
        try write(header, halves.flatMap { [UInt8($0 & 255), UInt8($0 >> 8)] })
        let file = try TensorFile(path("in"))
        #expect(file.entries.map(\.name) == ["h", "b"])
        #expect(try file.values(file.entries[0]) == [1, -2, 0x1p-24, 65_504, 0])
        #expect(try file.values(file.entries[1]) == [1.5, -100])
    }

    func write(_ header: String, _ data: [UInt8], length: UInt64? = nil) throws {
        let size = withUnsafeBytes(of: (length ?? UInt64(header.utf8.count)).littleEndian) { [UInt8]($0) }
        try Data(size + Array(header.utf8) + data).write(to: folder.appending(path: "in"))
    }

    @Test(arguments: [
        #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
        #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
        #"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
        #"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#,
        #"{"a":{"dtype":"F32","shape":[9223372036854775807,2],"data_offsets":[0,8]}}"#,
        #"{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,8]}}"#,
        #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
        #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}"#,
        #"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}"#,
        #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}}"#,
        #"{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#,
        #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        #"{"a":{"dtype":"F32"}}"#, #"{"a":7}"#, #"[1]"#, #"{"#, "", #"{"a":null}"#,
    ])
    func `hostile headers are refused`(header: String) throws {
        try write(header, [UInt8](repeating: 0, count: 8))
        #expect(throws: TensorFileError.self) { try encode(.int8) }
        #expect(!FileManager.default.fileExists(atPath: path("out")))
    }

    @Test func `headers longer than the file, cut files and values that are not finite are refused`() throws {
        for length in [9, 1 << 40, UInt64.max] {
            try write("{}", [], length: length)
            #expect(throws: TensorFileError.self) { try encode(.int8) }
        }
        try TensorFile.write(Self.tensors, to: path("in"))
        let whole = try Data(contentsOf: folder.appending(path: "in"))
        for count in [0, 7, 8, 100, whole.count - 1] {
            try whole.prefix(count).write(to: folder.appending(path: "in"))
            #expect(throws: TensorFileError.self) { try encode(.int8) }
        }
        try TensorFile.write([.init(name: "a", shape: [3], values: [1, .nan, 2])], to: path("in"))
        #expect(throws: TensorFileError.notFinite(path: path("in"), name: "a", index: 1)) { try encode(.int8) }
    }

    @Test func `an encoded file that was cut or changed anywhere is refused and writes nothing`() throws {
        try TensorFile.write(Self.tensors, to: path("in"))
        _ = try encode(.sparse(k: 7))
        let whole = [UInt8](try Data(contentsOf: folder.appending(path: "out")))
        for index in stride(from: 0, to: whole.count, by: 3) {
            var bytes = whole
            bytes[index] ^= 1 << UInt8(index % 8)
            try Data(bytes).write(to: folder.appending(path: "out"))
            #expect(throws: TensorFileError.self, "byte \(index)") { try decode() }
            try Data(whole.prefix(index)).write(to: folder.appending(path: "out"))
            #expect(throws: TensorFileError.self, "cut at \(index)") { try decode() }
        }
        #expect(!FileManager.default.fileExists(atPath: path("back")))
    }

    @Test func `what cannot be written leaves what was there`() throws {
        try TensorFile.write(Self.tensors, to: path("in"))
        _ = try encode(.int4, state: "state")
        let before = try Data(contentsOf: folder.appending(path: "state"))
        // The output is a folder's name, which no file can take.
        try FileManager.default.removeItem(atPath: path("out"))
        try FileManager.default.createDirectory(atPath: path("out"), withIntermediateDirectories: true)
        #expect(throws: TensorFileError.self) { try encode(.int4, state: "state") }
        #expect(try Data(contentsOf: folder.appending(path: "state")) == before)
        let left = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
        #expect(left == ["in", "out", "state"])
    }
}
