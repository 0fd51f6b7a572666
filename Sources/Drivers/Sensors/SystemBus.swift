import Glibc

/// Properties of services of this machine over D-Bus (sd-bus(3)), where libsystemd is there: it is looked for when the program runs, so that
/// machines without it need nothing. Calls may take as long as ``patience``: not on a loop.
final class SystemBus {
    private typealias Open = @convention(c) (UnsafeMutablePointer<OpaquePointer?>) -> Int32
    private typealias Close = @convention(c) (OpaquePointer?) -> OpaquePointer?
    private typealias SetTimeout = @convention(c) (OpaquePointer?, UInt64) -> Int32
    private typealias GetTrivial =
        @convention(c) (
            OpaquePointer?, UnsafePointer<CChar>, UnsafePointer<CChar>, UnsafePointer<CChar>, UnsafePointer<CChar>,
            UnsafeMutableRawPointer?, CChar, UnsafeMutableRawPointer
        ) -> Int32

    struct Failure: Error {
        let why: String
    }
    private static let patience: UInt64 = 300_000
    private let library: UnsafeMutableRawPointer
    private let get: GetTrivial
    private let closeBus: Close
    private var bus: OpaquePointer?

    /// - Throws: why there is no bus.
    init() throws(Failure) {
        guard let library = dlopen("libsystemd.so.0", RTLD_NOW | RTLD_LOCAL) else {
            throw Failure(why: "libsystemd is not installed")
        }
        func find<Function>(_ name: String, _ type: Function.Type) -> Function? {
            dlsym(library, name).map { unsafeBitCast($0, to: type) }
        }
        guard let open = find("sd_bus_open_system", Open.self),
            let close = find("sd_bus_flush_close_unref", Close.self),
            let setTimeout = find("sd_bus_set_method_call_timeout", SetTimeout.self),
            let get = find("sd_bus_get_property_trivial", GetTrivial.self)
        else {
            dlclose(library)
            throw Failure(why: "libsystemd is too old")
        }
        (self.library, self.get, closeBus) = (library, get, close)
        let opened = open(&bus)
        guard opened >= 0 else { throw Failure(why: "there is no system bus: \(String(cString: strerror(-opened)))") }
        _ = setTimeout(bus, Self.patience)
    }
    deinit {
        _ = closeBus(bus)
        dlclose(library)
    }

    /// One property of a basic type, as its bytes.
    private func property<Value>(
        _ service: String, _ path: String, _ interface: String, _ name: String, type: Character, _ value: inout Value
    ) throws(Failure) {
        let letter = CChar(bitPattern: type.asciiValue ?? 0)
        // A connection whose bus has gone stays broken: `isBroken` has it made anew.
        let result = withUnsafeMutableBytes(of: &value) {
            get(bus, service, path, interface, name, nil, letter, $0.baseAddress!)
        }
        guard result >= 0 else {
            isBroken = isBroken || [ENOTCONN, ECONNRESET, EPIPE].contains(-result)
            throw Failure(why: "\(service) does not say: \(String(cString: strerror(-result)))")
        }
    }
    private(set) var isBroken = false

    func number(_ service: String, _ path: String, _ name: String, interface: String? = nil) throws(Failure) -> UInt32 {
        var value: UInt32 = 0
        try property(service, path, interface ?? service, name, type: "u", &value)
        return value
    }
    func wide(_ service: String, _ path: String, _ name: String, interface: String) throws(Failure) -> UInt64 {
        var value: UInt64 = 0
        try property(service, path, interface, name, type: "t", &value)
        return value
    }
    /// Four bytes on the bus.
    func truth(_ service: String, _ path: String, _ name: String, interface: String) throws(Failure) -> Bool {
        var value: Int32 = 0
        try property(service, path, interface, name, type: "b", &value)
        return value != 0
    }
}
