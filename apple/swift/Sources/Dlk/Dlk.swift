// dlk in Swift: devices, models and runs over the C interface. Every handle is released with its
// object; every failure is a thrown `DlkError` with the library's words.
import CDlk
import Foundation

public struct DlkError: Error, CustomStringConvertible {
  public let status: dlk_status
  public let description: String
}

func check(_ status: dlk_status) throws {
  if status != DLK_OK {
    throw DlkError(status: status, description: String(cString: dlk_last_error()))
  }
}

/// A C array of characters with a terminating zero, as dlk's structures hold names.
func text<T>(of characters: T) -> String {
  withUnsafeBytes(of: characters) { bytes in
    String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
  }
}

/// A GPU. `Device()` is the default one; `Device("metal:1")` or `Device("name:M2")` choose.
public final class Device {
  let handle: OpaquePointer

  public init(_ spec: String = "") throws {
    var opened: OpaquePointer?
    try check(dlk_device_open(spec, &opened))
    handle = opened!
  }

  /// An app's own `MTLDevice` and, where given, `MTLCommandQueue`; both must outlive the `Device`.
  public init(metalDevice: AnyObject, queue: AnyObject? = nil) throws {
    var native = dlk_native_device()
    native.device = Unmanaged.passUnretained(metalDevice).toOpaque()
    if let queue {
      native.queue = Unmanaged.passUnretained(queue).toOpaque()
    }
    var opened: OpaquePointer?
    try check(dlk_device_wrap("metal", &native, &opened))
    handle = opened!
  }

  deinit { dlk_device_release(handle) }

  /// The ids and names of all devices, the best backend's first.
  public static var all: [(id: String, name: String)] {
    (0..<dlk_device_count()).compactMap { index in
      var info = dlk_device_info()
      guard dlk_device_get_info(index, &info) == DLK_OK else { return nil }
      return (text(of: info.id), text(of: info.name))
    }
  }
}

/// A network that was loaded on a device. Thread-safe.
public final class Model {
  let handle: OpaquePointer

  /// - Parameters:
  ///   - path: a `.dlk` file or directory.
  ///   - halfPrecision: store weights and activations in float16.
  public init(path: String, device: Device, halfPrecision: Bool = false) throws {
    var options = dlk_model_options()
    options.dtype = halfPrecision ? DLK_FLOAT16 : DLK_FLOAT32
    var loaded: OpaquePointer?
    try check(dlk_model_load(path, device.handle, &options, &loaded))
    handle = loaded!
  }

  deinit { dlk_model_release(handle) }

  /// Names of a classifier's classes; empty if the model has none.
  public var labels: [String] {
    (0..<dlk_model_label_count(handle)).map { String(cString: dlk_model_label(handle, $0)) }
  }

  /// Prepares a picture as the model wants it: `rgb` holds `width * height * 3` bytes.
  public func prepare(rgb: [UInt8], width: Int, height: Int) throws -> Tensor {
    precondition(rgb.count == width * height * 3, "rgb must hold width * height * 3 bytes")
    var info = dlk_tensor_info()
    let w = UInt32(width), h = UInt32(height)
    try check(dlk_model_prepare_image(handle, rgb, w, h, nil, 0, &info))
    var tensor = Tensor(name: text(of: info.name), shape: info.dimensions)
    let bytes = tensor.values.count * MemoryLayout<Float>.size
    try tensor.values.withUnsafeMutableBufferPointer { values in
      try check(dlk_model_prepare_image(handle, rgb, w, h, values.baseAddress, bytes, &info))
    }
    return tensor
  }
}

/// A dense float32 tensor in row-major order.
public struct Tensor {
  public var name: String
  public let shape: [Int]
  public var values: [Float]

  public init(name: String, shape: [Int]) {
    self.name = name
    self.shape = shape
    values = [Float](repeating: 0, count: shape.reduce(1, *))
  }
}

extension dlk_tensor_info {
  var dimensions: [Int] {
    withUnsafeBytes(of: shape) { bytes in
      bytes.bindMemory(to: Int64.self).prefix(rank).map(Int.init)
    }
  }
}

/// Runs a model; for one thread at a time.
public final class Session {
  let model: Model
  let handle: OpaquePointer

  public init(_ model: Model) throws {
    self.model = model
    var created: OpaquePointer?
    try check(dlk_session_create(model.handle, &created))
    handle = created!
  }

  deinit { dlk_session_release(handle) }

  /// Runs the model on the inputs and returns its first output.
  public func run(_ inputs: [Tensor]) throws -> Tensor {
    for input in inputs { try bind(input) }
    var started: OpaquePointer?
    try check(dlk_session_run(handle, &started))
    defer { dlk_run_release(started) }
    let output = String(cString: dlk_model_output_name(model.handle, 0))
    var info = dlk_tensor_info()
    try check(dlk_run_output_info(started, output, &info))
    var result = Tensor(name: output, shape: info.dimensions)
    let bytes = result.values.count * MemoryLayout<Float>.size
    try result.values.withUnsafeMutableBytes { values in
      try check(dlk_run_read(started, output, values.baseAddress, bytes))
    }
    return result
  }

  private func bind(_ input: Tensor) throws {
    let shape = input.shape.map(Int64.init)
    try shape.withUnsafeBufferPointer { dimensions in
      try input.values.withUnsafeBytes { values in
        var tensor = dlk_tensor()
        tensor.dtype = DLK_FLOAT32
        tensor.rank = dimensions.count
        tensor.shape = dimensions.baseAddress
        tensor.data = values.baseAddress
        try check(dlk_session_bind(handle, input.name, &tensor))
      }
    }
  }
}
