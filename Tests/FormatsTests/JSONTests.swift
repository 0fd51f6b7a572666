import JSON
import Primitives
import Testing

@Suite struct JSONTests {
    static func parse(_ text: String) -> Result<JSONValue, JSONError> {
        Result { () throws(JSONError) in try JSONValue(parsing: Array(text.utf8)) }
    }

    @Test(arguments: [
        "null", "true", "[]", "{}", "-0", "1e-05", "12345678901234567890", "[1,2,[3]]", #"{"b":1,"a":[{},""]}"#,
        #""é\n\u0000""#, #"{"a":{"b":[true,false,null]}}"#,
    ])
    func `what is read is written as it was`(text: String) throws {
        let value = try Self.parse(text).get()
        let again = try Self.parse(value.written()).get()
        #expect(again == value)
        #expect(try Self.parse(value.written(indented: true)).get() == value)
        if !text.contains("\\") { #expect(value.written() == text) }
    }

    @Test(arguments: [
        ("", 1, 1), ("[1,]", 1, 4), ("{\"a\":1,\"a\":2}", 1, 8), ("[1\n,2\n 3]", 3, 2), ("\"\u{1}\"", 1, 2),
        ("01", 1, 3),
        ("1.", 1, 3), ("nul", 1, 1), ("[1] 2", 1, 5), ("\"\\ud800\"", 1, 8), ("\"\\x\"", 1, 3), ("{a:1}", 1, 2),
        ("\"abc", 1, 5), ("{\"a\" 1}", 1, 6), ("+1", 1, 1), ("[1 2]", 1, 4), ("\"\\ud800\\u0041\"", 1, 14),
    ])
    func `what is no JSON is refused with its place`(text: String, line: Int, column: Int) {
        guard case .failure(let error) = Self.parse(text) else {
            Issue.record("\(text) was read")
            return
        }
        #expect(error.line == line)
        #expect(error.column == column, "\(error)")
    }

    @Test func `bytes that are no UTF-8 are refused`() {
        for bytes in [[34, 0xC3, 34], [34, 0xED, 0xA0, 0x80, 34], [34, 0xC0, 0x80, 34]] as [[UInt8]] {
            #expect(throws: JSONError.self) { try JSONValue(parsing: bytes) }
        }
    }

    @Test func `composed and decomposed letters are two keys`() throws {
        let value = try Self.parse("{\"\u{e9}\":1,\"e\u{301}\":2}").get()
        #expect(value.object?["\u{e9}"]?.integer == 1)
        #expect(value.object?["e\u{301}"]?.integer == 2)
        let many = (0..<20).map { "\"k\($0)\":0" }.joined(separator: ",")
        #expect(try Self.parse("{\(many),\"\u{e9}\":1,\"e\u{301}\":2}").get().object?.members.count == 22)
        guard case .failure(let error) = Self.parse("{\(many),\"k3\":1}") else {
            Issue.record("a key twice was read")
            return
        }
        #expect(error.problem.contains("k3"))
    }

    @Test func `levels are bounded`() {
        #expect(throws: Never.self) {
            try Self.parse(String(repeating: "[", count: 64) + String(repeating: "]", count: 64)).get()
        }
        #expect(throws: JSONError.self) { try Self.parse(String(repeating: "[", count: 1_000_000)).get() }
    }

    @Test func `whole numbers are whole however they are written`() throws {
        let values = try Self.parse("[1e3,12.0,1.5,9223372036854775808,1e400]").get().array ?? []
        let whole: [Int?] = [1000, 12, nil, nil, nil]
        #expect(values.map(\.integer) == whole)
        #expect(try Self.parse("1e400").get().double == nil)
    }

    @Test func `damaged texts are refused or read, never worse`() {
        let good = Array(#"{"a":[1,-2.5e3,"x\u00e9\n",{"b":null,"c":true}],"d":"ſ"}"#.utf8)
        var generator = SeededGenerator(seed: 1)
        for _ in 0..<20_000 {
            var bytes = good
            for _ in 0...generator.below(3) { bytes[generator.below(bytes.count)] = UInt8(generator.below(256)) }
            if generator.below(4) == 0 { bytes.removeLast(generator.below(bytes.count)) }
            if let value = try? JSONValue(parsing: bytes) {
                #expect(try! JSONValue(parsing: value.bytes()) == value)
            }
        }
    }
}
