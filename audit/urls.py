# SPDX-License-Identifier: Apache-2.0
from django.urls import path

from audit import api

api_urlpatterns = [
    path("audit/entries", api.EntriesView.as_view(), name="audit-entries"),
    path("audit/checkpoint", api.CheckpointView.as_view(), name="audit-checkpoint"),
    path("audit/proof", api.ProofView.as_view(), name="audit-proof"),
    path("audit/head", api.HeadView.as_view(), name="audit-head"),
    path("audit/roles", api.RolesView.as_view(), name="audit-roles"),
    path("audit/export", api.ExportView.as_view(), name="audit-export"),
    path("audit/exports", api.ExportsView.as_view(), name="audit-exports"),
    path("audit/exports/<uuid:export_id>", api.OneExportView.as_view(), name="audit-export-job"),
    path(
        "audit/exports/<uuid:export_id>/pieces/<int:number>", api.ExportPieceView.as_view(), name="audit-export-piece"
    ),
    path("tiles/<str:log>/<int:level>/<int:index>", api.TileView.as_view(), name="audit-tile"),
]
