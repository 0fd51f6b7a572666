import Primitives
import Testing
import Wire

@Suite struct `Checksums and TensorBoard's files` {
    @Test(
        arguments: [
            (Array("123456789".utf8), 0xE306_9283), ([UInt8](repeating: 0, count: 32), 0x8A91_36AA),
            ([UInt8](repeating: 0xff, count: 32), 0x62A8_AB43), (Array(UInt8(0)..<32), 0x46DD_794E), ([], 0),
        ] as [([UInt8], UInt32)])
    func `CRC-32C has the values of RFC 3720`(bytes: [UInt8], sum: UInt32) {
        #expect(CRC32C.checksum(bytes) == sum)
    }

    @Test func `records are those that TensorBoard's own writer writes`() {
        // tensorboard 2.21, `summary.writer.record_writer.RecordWriter`, the same three events.
        let written =
            TensorBoardFile.beginning(at: 1.5)
            + TensorBoardFile.scalars([("loss/train", 3.25), ("round/seconds", 0.1)], step: 4, at: 2.5)
            + TensorBoardFile.undone(from: 9, at: 3.5)
        let expected =
            "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c36000000000000004f578cef09000000000000"
            + "044010042a290a110a0a6c6f73732f747261696e15000050400a140a0d726f756e642f7365636f6e647315cdcccc3d2f53b8a40f00000000000000"
            + "6d532b09090000000000000c4010093a0208018cd5c993"
        #expect(written.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() == expected)
    }
}
