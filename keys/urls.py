# SPDX-License-Identifier: Apache-2.0
"""Addresses of this app."""

from __future__ import annotations

from django.urls import path
from django.urls.resolvers import URLPattern

from keys import api, mailbox_api, vaults_api

api_urlpatterns: list[URLPattern] = [
    path("devices", api.DevicesView.as_view(), name="devices"),
    path("devices/restored", api.ComeBackView.as_view(), name="device-restored"),
    path("devices/<uuid:device_id>", api.DeviceView.as_view(), name="device"),
    path("devices/<uuid:device_id>/bundle", api.BundleView.as_view(), name="device-bundle"),
    path("devices/<uuid:device_id>/pre-keys", api.PreKeysView.as_view(), name="device-pre-keys"),
    path("devices/<uuid:device_id>/check", api.CheckView.as_view(), name="device-check"),
    path("devices/<uuid:device_id>/claim", api.ClaimView.as_view(), name="device-claim"),
    path("devices/<uuid:device_id>/successor", api.SuccessorView.as_view(), name="device-successor"),
    path("devices/<uuid:device_id>/messages", mailbox_api.DeviceMessagesView.as_view(), name="device-messages"),
    path("messages", mailbox_api.MessagesView.as_view(), name="messages"),
    path("messages/ack", mailbox_api.AcknowledgeView.as_view(), name="messages-ack"),
    path("messages/<uuid:message_id>/content", mailbox_api.ContentView.as_view(), name="message-content"),
    path("users", api.UsersView.as_view(), name="users"),
    path("users/<uuid:user_id>/messages", mailbox_api.UserMessagesView.as_view(), name="user-messages"),
    path("users/<uuid:user_id>/chain", api.ChainView.as_view(), name="user-chain"),
    path("users/<uuid:user_id>/chain/restored", api.GivenBackView.as_view(), name="user-chain-restored"),
    path("users/<uuid:user_id>/chain/proof", api.ChainProofView.as_view(), name="user-chain-proof"),
    path("users/<uuid:user_id>/devices", api.UserDevicesView.as_view(), name="user-devices"),
    path("users/<uuid:user_id>/claim", api.UserClaimView.as_view(), name="user-claim"),
    path("vault", vaults_api.VaultView.as_view(), name="vault"),
    path("vault/officers", vaults_api.OfficersSectionView.as_view(), name="officers-section"),
    path("vault/officers/doors", vaults_api.OfficersDoorsView.as_view(), name="officers-doors"),
    path("vault/officers/doors/<str:kind>", vaults_api.OfficersDoorView.as_view(), name="officers-door"),
    path(
        "vault/officers/doors/<str:kind>/proof",
        vaults_api.OfficersDoorProofView.as_view(),
        name="officers-door-proof",
    ),
    path("vault/doors", vaults_api.DoorsView.as_view(), name="vault-doors"),
    path("vault/doors/<str:kind>", vaults_api.DoorView.as_view(), name="vault-door"),
]
